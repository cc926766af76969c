//! Stopping containers: preStop hooks, signals, grace, and sidecars last.

use std::time::Duration;

use cri::{ContainerId, ContainerStatus};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::watch;

use crate::events::Severity;
use crate::pods::facts::{ContainerKind, find_container, init_containers, is_accompanying, spec};
use crate::probes::ProbeKind;
use crate::worker::executor::Executor;
use crate::worker::observed::is_running;
use crate::worker::plan::Kill;
use crate::worker::{Observed, hooks};

/// A container is given at least this long between signal and kill, unless told otherwise.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// The containers to stop, in groups: a group is signalled when all before it have ended.
pub(crate) fn stop_groups(pod: &Pod, observed: &Observed) -> Vec<Vec<ContainerId>> {
    let sidecar_index = |status: &ContainerStatus| {
        let all = init_containers(pod);
        all.iter()
            .position(|init| init.name == status.name && is_accompanying(ContainerKind::Init, init))
    };
    let mut groups: Vec<Vec<ContainerId>> = vec![Vec::new(); init_containers(pod).len() + 1];
    for status in observed
        .containers
        .iter()
        .filter(|status| !matches!(status.state, cri::ContainerState::Exited { .. }))
    {
        // Sidecars end in the reverse of the order they began in.
        let group = sidecar_index(status).map_or(0, |index| groups.len() - 1 - index);
        groups[group].push(status.id.clone());
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// Grace of one container that is killed while the pod goes on: seconds.
fn grace_of_kill(pod: &Pod, container: &Container, because_of: Option<ProbeKind>) -> i64 {
    let of_pod = spec(pod)
        .termination_grace_period_seconds
        .unwrap_or(crate::worker_defaults::GRACE_SECONDS);
    let probe = because_of.and_then(|probe| probe.of(container));
    probe
        .and_then(|probe| probe.termination_grace_period_seconds)
        .unwrap_or(of_pod)
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

impl Executor {
    /// Stops every container of the pod, and then its sandboxes. `grace`: seconds.
    pub(crate) async fn stop_pod(
        &self,
        pod: &Pod,
        observed: &Observed,
        grace: i64,
    ) -> cri::Result<()> {
        let groups = stop_groups(pod, observed);
        let (ended, _) = watch::channel(0_usize);
        let mut before = 0;
        let mut stops = Vec::new();
        for group in &groups {
            for id in group {
                stops.push(self.stop_in_turn(pod, observed, id, seconds(grace), (&ended, before)));
            }
            before += group.len();
        }
        let results = join_all(stops).await;
        for sandbox in &observed.sandboxes {
            self.services.runtime.stop_pod_sandbox(&sandbox.id).await?;
        }
        results.into_iter().collect()
    }

    async fn stop_in_turn(
        &self,
        pod: &Pod,
        observed: &Observed,
        id: &ContainerId,
        grace: Duration,
        (ended, before): (&watch::Sender<usize>, usize),
    ) -> cri::Result<()> {
        let clock = &self.services.clock;
        let deadline = clock.monotonic() + grace;
        let Some(status) = observed.containers.iter().find(|status| status.id == *id) else {
            return Ok(());
        };
        let found = find_container(pod, &status.name);
        if let Some((kind, container)) = &found {
            let text = format!("Stopping container {}", container.name);
            self.services.events.container(
                pod,
                (*kind, &container.name),
                Severity::Normal,
                "Killing",
                text,
            );
            if is_running(status) {
                self.pre_stop(pod, *kind, container, observed, id, grace)
                    .await;
            }
        }
        let mut turn = ended.subscribe();
        let left = deadline.saturating_sub(clock.monotonic());
        // Whoever does not end in time does not hold up the others.
        drop(env::timeout(left, turn.wait_for(|ended| *ended >= before)).await);
        let left = deadline
            .saturating_sub(clock.monotonic())
            .max(if grace.is_zero() {
                Duration::ZERO
            } else {
                GRACE_MIN.min(grace)
            });
        let stopped = self.services.runtime.stop_container(id, left).await;
        ended.send_modify(|ended| *ended += 1);
        stopped
    }

    /// Stops one container while the pod goes on.
    pub(crate) async fn kill_container(
        &self,
        pod: &Pod,
        observed: &Observed,
        kill: &Kill,
    ) -> cri::Result<()> {
        let Some((kind, container)) = find_container(pod, &kill.name) else {
            return self
                .services
                .runtime
                .stop_container(&kill.id, GRACE_MIN)
                .await;
        };
        self.services.events.container(
            pod,
            (kind, &kill.name),
            Severity::Normal,
            "Killing",
            kill.message.clone(),
        );
        let grace = seconds(grace_of_kill(pod, &container, kill.because_of));
        let deadline = self.services.clock.monotonic() + grace;
        self.pre_stop(pod, kind, &container, observed, &kill.id, grace)
            .await;
        let left = deadline
            .saturating_sub(self.services.clock.monotonic())
            .max(GRACE_MIN.min(grace));
        self.services.runtime.stop_container(&kill.id, left).await
    }

    async fn pre_stop(
        &self,
        pod: &Pod,
        kind: ContainerKind,
        container: &Container,
        observed: &Observed,
        id: &ContainerId,
        grace: Duration,
    ) {
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let Some(hook) = hook.filter(|_| !grace.is_zero()) else {
            return;
        };
        let ip = self.pod_ip(pod, observed);
        let run = hooks::run(
            self.services.runtime.as_ref(),
            pod,
            container,
            id,
            &ip,
            hook,
        );
        if let Ok(Err(error)) = env::timeout(grace, run).await {
            tracing::debug!(container = container.name, error, "a preStop hook failed");
            // The text may hold secrets of the hook's answer: it is not told.
            self.services.events.container(
                pod,
                (kind, &container.name),
                Severity::Warning,
                "FailedPreStopHook",
                "PreStopHook failed",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sidecars_end_after_the_others_in_reverse_order() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "app"}], "initContainers": [
            {"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}]}}))
        .unwrap();
        let running = crate::worker::tests::running;
        let observed = Observed::new(
            Vec::new(),
            vec![running("s1"), running("s2"), running("app")],
        );
        let names: Vec<Vec<String>> = stop_groups(&pod, &observed)
            .iter()
            .map(|group| group.iter().map(|id| id.0.clone()).collect())
            .collect();
        assert_eq!(names, [["app"], ["s2"], ["s1"]]);
    }
}
