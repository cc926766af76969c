//! One probe of one container: looks again and again and sets the standing result once a threshold is passed.

use std::sync::Arc;
use std::time::Duration;

use cri::ContainerId;
use env::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};

use crate::events::Severity;
use crate::pods::Inputs;
use crate::pods::facts::ContainerKind;
use crate::probes::check::{Seen, check, seconds};
use crate::probes::{ProbeKind, ProbeResult};
use crate::services::Services;

pub(crate) struct ProbeTask {
    pub(crate) services: Arc<Services>,
    pub(crate) inputs: Arc<Inputs>,
    /// Metadata only: what events need.
    pub(crate) pod: Pod,
    pub(crate) kind: ContainerKind,
    /// Name and ports only.
    pub(crate) container: Container,
    pub(crate) probe: Probe,
    pub(crate) which: ProbeKind,
    pub(crate) id: ContainerId,
    pub(crate) started_at: Timestamp,
    pub(crate) pod_ip: String,
}

/// Counts equal results in a row.
#[derive(Debug, Default)]
pub(crate) struct Run {
    last: Option<ProbeResult>,
    length: i32,
}

impl Run {
    /// The new standing result, if this look passes a threshold.
    pub(crate) fn add(&mut self, result: ProbeResult, probe: &Probe) -> Option<ProbeResult> {
        if self.last == Some(result) {
            self.length = self.length.saturating_add(1);
        } else {
            self.last = Some(result);
            self.length = 1;
        }
        let threshold = match result {
            ProbeResult::Failure => probe.failure_threshold.unwrap_or(3),
            ProbeResult::Success => probe.success_threshold.unwrap_or(1),
        };
        (self.length >= threshold).then_some(result)
    }
}

impl ProbeTask {
    /// Runs until the container is to be restarted, its startup is decided, or somebody aborts it.
    pub(crate) async fn run(self) {
        let delay = seconds(self.probe.initial_delay_seconds, 0);
        let passed = self.services.clock.now().saturating_since(self.started_at);
        let first = delay.saturating_sub(passed);
        if !first.is_zero() {
            env::sleep(first).await;
        }
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let mut run = Run::default();
        loop {
            // Boxed: between two looks the task should hold little.
            let seen = Box::pin(check(
                self.services.runtime.as_ref(),
                &self.container,
                &self.id,
                &self.pod_ip,
                &self.probe,
            ))
            .await;
            self.tell(&seen);
            let result = match seen {
                Seen::Success | Seen::Warning(_) => Some(ProbeResult::Success),
                Seen::Failure(_) => Some(ProbeResult::Failure),
                Seen::Unknown(_) => None,
            };
            if let Some(standing) = result.and_then(|result| run.add(result, &self.probe)) {
                self.inputs.set_probe(&self.id, self.which, standing);
                let is_decided = match self.which {
                    ProbeKind::Startup => true,
                    ProbeKind::Liveness => standing == ProbeResult::Failure,
                    ProbeKind::Readiness => false,
                };
                if is_decided {
                    return;
                }
            }
            env::sleep(period).await;
        }
    }

    fn tell(&self, seen: &Seen) {
        let title = self.which.title();
        let (reason, text) = match seen {
            Seen::Success => return,
            Seen::Warning(text) => ("ProbeWarning", format!("{title} probe warning: {text}")),
            Seen::Failure(text) => ("Unhealthy", format!("{title} probe failed: {text}")),
            Seen::Unknown(text) => (
                "Unhealthy",
                format!("{title} probe errored and resulted in unknown state: {text}"),
            ),
        };
        self.services.events.container(
            &self.pod,
            (self.kind, &self.container.name),
            Severity::Warning,
            reason,
            text,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_stands_once_it_came_as_often_as_its_threshold_says() {
        let probe = Probe {
            failure_threshold: Some(2),
            success_threshold: Some(1),
            ..Probe::default()
        };
        let mut run = Run::default();
        assert_eq!(run.add(ProbeResult::Failure, &probe), None);
        assert_eq!(
            run.add(ProbeResult::Success, &probe),
            Some(ProbeResult::Success)
        );
        assert_eq!(run.add(ProbeResult::Failure, &probe), None);
        assert_eq!(
            run.add(ProbeResult::Failure, &probe),
            Some(ProbeResult::Failure)
        );
    }
}
