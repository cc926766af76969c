//! Which records of ended containers and sandboxes a pod still needs: the last two of each container.

use cri::{ContainerId, ContainerState, ContainerStatus, PodSandboxId, PodSandboxState};

use crate::worker::Observed;

/// Of each container: the newest, and the one before it, which `lastState` and `logs --previous` show.
const KEPT: usize = 2;

/// What may be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surplus {
    pub(crate) containers: Vec<ContainerId>,
    pub(crate) sandboxes: Vec<PodSandboxId>,
}

pub(crate) fn surplus(observed: &Observed) -> Surplus {
    let mut kept: Vec<&ContainerStatus> = Vec::new();
    let mut containers = Vec::new();
    for container in &observed.containers {
        let newer = kept
            .iter()
            .filter(|kept| kept.name == container.name)
            .count();
        let has_ended = matches!(container.state, ContainerState::Exited { .. });
        if newer >= KEPT && has_ended {
            containers.push(container.id.clone());
        } else {
            kept.push(container);
        }
    }
    let old = observed
        .sandboxes
        .iter()
        .skip(1)
        .filter(|sandbox| sandbox.state == PodSandboxState::NotReady);
    let empty = old.filter(|sandbox| !kept.iter().any(|container| container.sandbox == sandbox.id));
    Surplus {
        containers,
        sandboxes: empty.map(|sandbox| sandbox.id.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::Timestamp;

    #[test]
    fn the_last_two_of_each_container_are_kept() {
        let make = |attempt: u32| {
            let mut status = crate::worker::tests::running("a");
            status.id = ContainerId(attempt.to_string());
            status.attempt = attempt;
            status.state = ContainerState::Exited {
                started_at: None,
                finished_at: Timestamp::UNIX_EPOCH,
                exit_code: 1,
                reason: cri::ExitReason::Error,
                message: String::new(),
            };
            status
        };
        let observed = Observed::new(Vec::new(), (0..4).map(make).collect());
        let ids: Vec<String> = surplus(&observed)
            .containers
            .into_iter()
            .map(|id| id.0)
            .collect();
        assert_eq!(ids, ["1", "0"]);
    }
}
