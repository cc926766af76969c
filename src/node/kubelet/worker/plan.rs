//! What to do next for a pod that should run: a pure function of what is wanted and what is there.

use std::collections::BTreeSet;

use cri::{
    ContainerId, ContainerState, ContainerStatus, NamespaceMode, PodSandboxId, PodSandboxState,
};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::container::labels::container_hash;
use crate::container::resources::{Resize, container_resize};
use crate::pods::facts::{
    ContainerKind, containers, ephemeral_containers, init_containers, is_host_network,
    restarts_after, restarts_when_killed, spec,
};
use crate::probes::{ProbeKind, ProbeResult};
use crate::status::ResizeState;
use crate::worker::Observed;
use crate::worker::observed::is_running;
use crate::worker::plan_init::{Initialisation, plan_init};

/// What the executor is to do, in this order: kill, remove, make the sandbox, start, resize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodActions {
    /// Stop the whole pod: its sandbox is replaced, or nothing is left to run in it.
    pub(crate) kill_pod: bool,
    /// The attempt of the sandbox to make.
    pub(crate) create_sandbox: Option<u32>,
    pub(crate) kill: Vec<Kill>,
    /// Containers to remove without a trace: left unstarted by a failed attempt, or restarted with all others.
    pub(crate) remove: Vec<ContainerId>,
    pub(crate) start: Vec<Start>,
    pub(crate) resize: Vec<Resize>,
}

/// A container to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Start {
    pub(crate) kind: ContainerKind,
    /// Its index in its list of the spec.
    pub(crate) index: usize,
}

/// A running container to stop, and the text of its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) message: String,
    /// The probe that failed: its own grace period counts.
    pub(crate) because_of: Option<ProbeKind>,
}

/// Everything a plan depends on.
pub(crate) struct PlanInputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observed,
    pub(crate) probe: &'a dyn Fn(&ContainerId, ProbeKind) -> Option<ProbeResult>,
    /// Containers that were killed to be started anew, and are not yet.
    pub(crate) owed: &'a BTreeSet<String>,
    /// Whether changes of resources may take effect.
    pub(crate) resize: &'a ResizeState,
}

/// Decides what brings the pod nearer to its spec. An empty plan means: it is there, or waits for something.
pub(crate) fn plan(inputs: &PlanInputs<'_>) -> PodActions {
    if let Some(attempt) = needs_new_sandbox(inputs.pod, inputs.observed) {
        return plan_new_sandbox(inputs, attempt);
    }
    let mut actions = PodActions::default();
    if let Some(reset) = plan_restart_of_all(inputs) {
        return reset;
    }
    for (index, container) in ephemeral_containers(inputs.pod).iter().enumerate() {
        // Ephemeral containers never run twice.
        if inputs.observed.newest(&container.name).is_none() {
            actions.start.push(Start {
                kind: ContainerKind::Ephemeral,
                index,
            });
        }
    }
    match plan_init(inputs, &mut actions) {
        Initialisation::Done => plan_regular(inputs, &mut actions),
        Initialisation::Pending => {}
        Initialisation::Failed => {
            actions
                .start
                .retain(|start| start.kind != ContainerKind::Init);
            actions.kill_pod = true;
        }
    }
    actions
        .start
        .sort_unstable_by_key(|start| (order(start.kind), start.index));
    actions
}

fn order(kind: ContainerKind) -> u8 {
    match kind {
        ContainerKind::Ephemeral => 0,
        ContainerKind::Init => 1,
        ContainerKind::Regular => 2,
    }
}

/// The attempt of the sandbox the pod needs; `None` when the one it has will do.
pub(crate) fn needs_new_sandbox(pod: &Pod, observed: &Observed) -> Option<u32> {
    let Some(newest) = observed.sandboxes.first() else {
        return Some(0);
    };
    let next = newest.attempt + 1;
    let ready = observed
        .sandboxes
        .iter()
        .filter(|sandbox| sandbox.state == PodSandboxState::Ready)
        .count();
    if ready > 1 || newest.state != PodSandboxState::Ready {
        return Some(next);
    }
    let wanted = if is_host_network(pod) {
        NamespaceMode::Node
    } else {
        NamespaceMode::Pod
    };
    if newest.namespaces.network != wanted {
        return Some(next);
    }
    let has_address = wanted == NamespaceMode::Node || !newest.addresses.is_empty();
    (!has_address).then_some(next)
}

fn plan_new_sandbox(inputs: &PlanInputs<'_>, attempt: u32) -> PodActions {
    let PlanInputs { pod, observed, .. } = *inputs;
    let mut actions = PodActions {
        kill_pod: true,
        ..PodActions::default()
    };
    let never = spec(pod).restart_policy.as_deref() == Some("Never");
    if never && attempt != 0 && !observed.containers.is_empty() {
        return actions;
    }
    let mut start: Vec<Start> = containers(pod)
        .iter()
        .enumerate()
        .filter(|(_, container)| !has_succeeded_for_good(pod, container, observed))
        .map(|(index, _)| Start {
            kind: ContainerKind::Regular,
            index,
        })
        .collect();
    let was_initialised = containers(pod)
        .iter()
        .any(|container| observed.newest(&container.name).is_some());
    if start.is_empty() && was_initialised {
        return actions;
    }
    actions.create_sandbox = Some(attempt);
    if !init_containers(pod).is_empty() {
        start = vec![Start {
            kind: ContainerKind::Init,
            index: 0,
        }];
        let is_init = |status: &&ContainerStatus| {
            init_containers(pod)
                .iter()
                .any(|init| init.name == status.name)
        };
        // Initialisation starts over in a new sandbox, so its traces go.
        actions.remove = observed
            .containers
            .iter()
            .filter(is_init)
            .map(|status| status.id.clone())
            .collect();
    }
    actions.start = start;
    actions
}

fn has_succeeded_for_good(pod: &Pod, container: &Container, observed: &Observed) -> bool {
    let policy = container
        .restart_policy
        .as_deref()
        .or(spec(pod).restart_policy.as_deref());
    policy == Some("OnFailure")
        && observed.newest(&container.name).is_some_and(|status| {
            matches!(status.state, ContainerState::Exited { exit_code: 0, .. })
        })
}

/// A container ended with a code whose rule says that all containers start over, initialisation too.
fn plan_restart_of_all(inputs: &PlanInputs<'_>) -> Option<PodActions> {
    let all = init_containers(inputs.pod)
        .iter()
        .chain(containers(inputs.pod));
    let asks = |container: &Container| {
        inputs
            .observed
            .newest(&container.name)
            .is_some_and(|status| match status.state {
                ContainerState::Exited { exit_code, .. } => {
                    crate::pods::facts::matching_rule(container, exit_code)
                        == Some("RestartAllContainers")
                }
                _ => false,
            })
    };
    let (sources, victims): (Vec<&Container>, Vec<&Container>) =
        all.partition(|container| asks(container));
    if sources.is_empty() {
        return None;
    }
    // The sources go last: as long as one is there, a new kubelet sees that the restart is not finished.
    let remove = victims
        .iter()
        .rev()
        .chain(sources.iter().rev())
        .flat_map(|container| inputs.observed.all_of(&container.name))
        .map(|status| status.id.clone())
        .collect();
    Some(PodActions {
        remove,
        ..PodActions::default()
    })
}

fn plan_regular(inputs: &PlanInputs<'_>, actions: &mut PodActions) {
    let mut kept = 0;
    let before = actions
        .start
        .iter()
        .filter(|start| start.kind == ContainerKind::Regular)
        .count();
    for (index, container) in containers(inputs.pod).iter().enumerate() {
        match verdict(inputs, ContainerKind::Regular, container) {
            Verdict::Keep(resize) => {
                kept += 1;
                actions.resize.extend(resize);
            }
            Verdict::Leave => {}
            Verdict::Start { remove } => {
                actions.remove.extend(remove);
                actions.start.push(Start {
                    kind: ContainerKind::Regular,
                    index,
                });
            }
            Verdict::Kill { kill, restart } => {
                actions.kill.push(kill);
                if restart {
                    actions.start.push(Start {
                        kind: ContainerKind::Regular,
                        index,
                    });
                }
            }
        }
    }
    let starts = actions
        .start
        .iter()
        .filter(|start| start.kind == ContainerKind::Regular)
        .count()
        - before;
    if kept == 0 && starts == 0 {
        actions.kill_pod = true;
        // Sidecars must not keep a pod alive whose work is done.
        actions
            .start
            .retain(|start| start.kind != ContainerKind::Init);
    }
}

/// What should happen with one container.
pub(crate) enum Verdict {
    /// It runs as it should, after this change of its limits.
    Keep(Option<Resize>),
    /// It has ended for good.
    Leave,
    /// It should run and does not; a container that was made and never started is removed first.
    Start { remove: Option<ContainerId> },
    /// It runs and should not, or should run anew.
    Kill { kill: Kill, restart: bool },
}

pub(crate) fn verdict(
    inputs: &PlanInputs<'_>,
    kind: ContainerKind,
    container: &Container,
) -> Verdict {
    let Some(status) = inputs.observed.newest(&container.name) else {
        return Verdict::Start { remove: None };
    };
    match status.state {
        ContainerState::Created => Verdict::Start {
            remove: Some(status.id.clone()),
        },
        ContainerState::Exited { exit_code, .. } => {
            let sidecar = crate::pods::facts::is_accompanying(kind, container);
            let owed = inputs.owed.contains(&container.name);
            if sidecar || owed || restarts_after(container, spec(inputs.pod), exit_code) {
                Verdict::Start { remove: None }
            } else {
                Verdict::Leave
            }
        }
        ContainerState::Running { .. } => verdict_of_running(inputs, kind, container, status),
    }
}

fn verdict_of_running(
    inputs: &PlanInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    status: &ContainerStatus,
) -> Verdict {
    debug_assert!(
        is_running(status),
        "only running containers are judged here"
    );
    let title = if kind == ContainerKind::Init {
        "Init container"
    } else {
        "Container"
    };
    let failed = |probe| (inputs.probe)(&status.id, probe) == Some(ProbeResult::Failure);
    let may_resize = !matches!(
        inputs.resize,
        ResizeState::Deferred(_) | ResizeState::Infeasible(_)
    );
    let resize = container_resize(inputs.pod, container, status).filter(|_| may_resize);
    let (message, because_of) =
        if crate::container::labels::hash_of(status) != Some(container_hash(container)) {
            (
                format!("{title} {} definition changed", container.name),
                None,
            )
        } else if failed(ProbeKind::Liveness) {
            (
                format!("{title} {} failed liveness probe", container.name),
                Some(ProbeKind::Liveness),
            )
        } else if failed(ProbeKind::Startup) {
            (
                format!("{title} {} failed startup probe", container.name),
                Some(ProbeKind::Startup),
            )
        } else if resize.as_ref().is_some_and(|resize| resize.restarts) {
            (
                format!("{title} {} resize requires restart", container.name),
                None,
            )
        } else {
            return Verdict::Keep(resize);
        };
    let restart = because_of.is_none()
        || crate::pods::facts::is_accompanying(kind, container)
        || restarts_when_killed(container, spec(inputs.pod));
    let message = if restart {
        format!("{message}, will be restarted")
    } else {
        message
    };
    Verdict::Kill {
        kill: Kill {
            id: status.id.clone(),
            name: container.name.clone(),
            message,
            because_of,
        },
        restart,
    }
}

/// The sandbox that containers are started in.
pub(crate) fn current_sandbox(observed: &Observed) -> Option<&PodSandboxId> {
    observed.ready_sandbox().map(|sandbox| &sandbox.id)
}
