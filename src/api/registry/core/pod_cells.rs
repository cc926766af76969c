//! What `kubectl get pods` shows of a pod: one word for its state, made of what all its containers say.

use env::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cells;

/// All that the cells need, found in one pass.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Time>,
}

/// Containers that are ready, of those that run beside each other.
pub(super) fn readiness(pod: &Pod) -> String {
    let summary = summarise(pod);
    format!("{}/{}", summary.ready, summary.total)
}

pub(super) fn state(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    if pod.metadata.deletion_timestamp.is_some() {
        if status.and_then(|status| status.reason.as_deref()) == Some("NodeLost") {
            return "Unknown".to_owned();
        }
        if !matches!(
            status.and_then(|status| status.phase.as_deref()),
            Some("Succeeded" | "Failed")
        ) {
            return "Terminating".to_owned();
        }
    }
    summarise(pod).reason
}

pub(super) fn restarts(pod: &Pod, now: Timestamp) -> String {
    let summary = summarise(pod);
    match &summary.last_restart {
        Some(time) if summary.restarts != 0 => format!(
            "{} ({} ago)",
            summary.restarts,
            cells::since(Some(time), now)
        ),
        _ => summary.restarts.to_string(),
    }
}

/// Conditions that hold, of those that the pod's readiness waits for.
pub(super) fn readiness_gates(pod: &Pod) -> String {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_deref())
        .unwrap_or_default();
    if gates.is_empty() {
        return cells::NONE.to_owned();
    }
    let holds = gates
        .iter()
        .filter(|gate| condition_holds(pod.status.as_ref(), &gate.condition_type))
        .count();
    format!("{holds}/{}", gates.len())
}

fn condition_holds(status: Option<&PodStatus>, kind: &str) -> bool {
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .is_some_and(|condition| condition.status == "True")
}

fn summarise(pod: &Pod) -> Summary {
    let status = pod.status.as_ref();
    let containers = pod
        .spec
        .as_ref()
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let init = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let sidecars = init
        .iter()
        .filter(|container| semantics::resources::is_sidecar(container))
        .count();
    let mut summary = Summary {
        reason: phase_reason(status),
        ready: 0,
        total: containers.len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    let initialising = add_init_containers(&mut summary, status, init);
    if !initialising || condition_holds(status, "Initialized") {
        restart_count_of_sidecars(&mut summary, status, init);
        add_containers(&mut summary, status);
    }
    summary
}

fn phase_reason(status: Option<&PodStatus>) -> String {
    let Some(status) = status else {
        return String::new();
    };
    let gated = |kind: &str, reason: Option<&str>| {
        kind == "PodScheduled" && reason == Some("SchedulingGated")
    };
    if status
        .conditions
        .iter()
        .flatten()
        .any(|condition| gated(&condition.type_, condition.reason.as_deref()))
    {
        return "SchedulingGated".to_owned();
    }
    status
        .reason
        .clone()
        .filter(|reason| !reason.is_empty())
        .or_else(|| status.phase.clone())
        .unwrap_or_default()
}

/// Walks the init containers up to the first that is not done; true if there is one.
fn add_init_containers(
    summary: &mut Summary,
    status: Option<&PodStatus>,
    init: &[Container],
) -> bool {
    let statuses = status
        .and_then(|status| status.init_container_statuses.as_deref())
        .unwrap_or_default();
    for (index, container) in statuses.iter().enumerate() {
        summary.count_restarts(container);
        let state = container.state.clone().unwrap_or_default();
        if state
            .terminated
            .as_ref()
            .is_some_and(|terminated| terminated.exit_code == 0)
        {
            continue;
        }
        if is_sidecar(init, &container.name) && container.started == Some(true) {
            summary.ready += usize::from(container.ready);
            continue;
        }
        summary.reason =
            init_reason(&state).unwrap_or_else(|| format!("Init:{index}/{}", init.len()));
        return true;
    }
    false
}

fn init_reason(state: &ContainerState) -> Option<String> {
    if let Some(terminated) = &state.terminated {
        return Some(format!("Init:{}", termination_reason(terminated)));
    }
    let reason = state
        .waiting
        .as_ref()?
        .reason
        .as_deref()
        .unwrap_or_default();
    (!reason.is_empty() && reason != "PodInitializing").then(|| format!("Init:{reason}"))
}

fn termination_reason(terminated: &ContainerStateTerminated) -> String {
    match (
        terminated.reason.as_deref().unwrap_or_default(),
        terminated.signal.unwrap_or(0),
    ) {
        ("", 0) => format!("ExitCode:{}", terminated.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Once a pod is initialised, restarts of what ran before no longer count.
fn restart_count_of_sidecars(
    summary: &mut Summary,
    status: Option<&PodStatus>,
    init: &[Container],
) {
    summary.restarts = 0;
    summary.last_restart = None;
    let statuses = status
        .and_then(|status| status.init_container_statuses.as_deref())
        .unwrap_or_default();
    for container in statuses {
        if is_sidecar(init, &container.name) {
            summary.count_restarts(container);
        }
    }
}

fn add_containers(summary: &mut Summary, status: Option<&PodStatus>) {
    let statuses = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    let mut has_running = false;
    let mut error_reason = None;
    for container in statuses.iter().rev() {
        summary.count_restarts(container);
        let state = container.state.clone().unwrap_or_default();
        let waiting = state
            .waiting
            .and_then(|waiting| waiting.reason)
            .filter(|reason| !reason.is_empty());
        if let Some(reason) = waiting {
            summary.reason = reason;
        } else if let Some(terminated) = &state.terminated {
            summary.reason = termination_reason(terminated);
            if terminated.exit_code != 0 {
                error_reason = Some(summary.reason.clone());
            }
        } else if container.ready && state.running.is_some() {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        if has_running && condition_holds(status, "Ready") {
            summary.reason = "Running".to_owned();
        } else if let Some(reason) = error_reason {
            summary.reason = reason;
        } else if has_running {
            summary.reason = "NotReady".to_owned();
        }
    }
}

fn is_sidecar(init: &[Container], name: &str) -> bool {
    init.iter()
        .find(|container| container.name == name)
        .is_some_and(semantics::resources::is_sidecar)
}

impl Summary {
    fn count_restarts(&mut self, container: &ContainerStatus) {
        self.restarts += i64::from(container.restart_count);
        let finished = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref()?.finished_at.clone());
        self.last_restart = self.last_restart.take().max(finished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    #[test]
    fn the_first_unfinished_init_container_names_the_state() {
        let pod = pod(json!({
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "state": {"running": {}}}]}}));
        assert_eq!(
            (state(&pod), readiness(&pod)),
            ("Init:1/2".to_owned(), "0/1".to_owned())
        );
    }

    #[test]
    fn a_crash_loop_shows_when_it_last_restarted() {
        let pod = pod(
            json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running", "containerStatuses": [
            {"name": "a", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
             "lastState": {"terminated": {"exitCode": 1, "finishedAt": "1970-01-01T00:00:00Z"}}}]}}),
        );
        let now = Timestamp::from_jiff(jiff::Timestamp::from_second(300).expect("a time"));
        assert_eq!(
            (state(&pod), restarts(&pod, now)),
            ("CrashLoopBackOff".to_owned(), "2 (5m ago)".to_owned())
        );
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_terminating_until_it_has_ended() {
        let mut pod = pod(
            json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"containers": []}, "status": {"phase": "Running"}}),
        );
        assert_eq!(state(&pod), "Terminating");
        pod.status.as_mut().expect("a status").phase = Some("Succeeded".to_owned());
        assert_eq!(state(&pod), "Succeeded");
    }
}
