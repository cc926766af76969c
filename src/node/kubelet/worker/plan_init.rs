//! How far a pod's initialisation is: init containers one after the other, sidecars staying behind them (KEP-753).

use cri::{ContainerId, ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::Container;
use semantics::resources::is_sidecar;

use crate::pods::facts::{ContainerKind, containers, init_containers, restarts_after, spec};
use crate::probes::{ProbeKind, ProbeResult};
use crate::worker::plan::{PlanInputs, PodActions, Start, Verdict, verdict};

/// Whether the regular containers may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initialisation {
    Done,
    Pending,
    /// An init container failed and does not run again.
    Failed,
}

/// Adds what initialisation needs next to `actions`.
pub(crate) fn plan_init(inputs: &PlanInputs<'_>, actions: &mut PodActions) -> Initialisation {
    let all = init_containers(inputs.pod);
    if all.is_empty() {
        return Initialisation::Done;
    }
    // Records of init containers may be gone; a regular container that runs proves that all of them had ended well.
    let initialised = containers(inputs.pod).iter().any(|container| {
        inputs
            .observed
            .newest(&container.name)
            .is_some_and(|status| !matches!(status.state, ContainerState::Exited { .. }))
    });
    if initialised {
        for (index, container) in all.iter().enumerate() {
            keep_sidecar(inputs, index, container, actions);
        }
        return Initialisation::Done;
    }
    let Some(last) = (0..all.len())
        .rev()
        .find(|index| inputs.observed.newest(&all[*index].name).is_some())
    else {
        actions.start.push(Start {
            kind: ContainerKind::Init,
            index: 0,
        });
        return Initialisation::Pending;
    };
    for (index, container) in all[..last].iter().enumerate() {
        keep_sidecar(inputs, index, container, actions);
    }
    match progress(inputs, last, &all[last], actions) {
        Progress::Passed if last + 1 == all.len() => Initialisation::Done,
        Progress::Passed => {
            actions.start.push(Start {
                kind: ContainerKind::Init,
                index: last + 1,
            });
            Initialisation::Pending
        }
        Progress::Waiting => Initialisation::Pending,
        Progress::Failed => Initialisation::Failed,
    }
}

enum Progress {
    Passed,
    Waiting,
    Failed,
}

/// The furthest init container: has it let the next one pass?
fn progress(
    inputs: &PlanInputs<'_>,
    index: usize,
    container: &Container,
    actions: &mut PodActions,
) -> Progress {
    let status = inputs
        .observed
        .newest(&container.name)
        .expect("the furthest container is one that was observed");
    let start = Start {
        kind: ContainerKind::Init,
        index,
    };
    if is_sidecar(container) {
        keep_sidecar(inputs, index, container, actions);
        return if sidecar_has_started(inputs, container, status) {
            Progress::Passed
        } else {
            Progress::Waiting
        };
    }
    match status.state {
        ContainerState::Created => {
            actions.remove.push(status.id.clone());
            actions.start.push(start);
            Progress::Waiting
        }
        ContainerState::Running { .. } => Progress::Waiting,
        ContainerState::Exited { exit_code: 0, .. } => Progress::Passed,
        ContainerState::Exited { exit_code, .. } if may_retry(inputs, container, exit_code) => {
            actions.start.push(start);
            Progress::Waiting
        }
        ContainerState::Exited { .. } => Progress::Failed,
    }
}

fn may_retry(inputs: &PlanInputs<'_>, container: &Container, code: i32) -> bool {
    restarts_after(container, spec(inputs.pod), code)
}

/// A sidecar lets the next container pass once it runs and its startup probe, if any, succeeded.
fn sidecar_has_started(
    inputs: &PlanInputs<'_>,
    container: &Container,
    status: &ContainerStatus,
) -> bool {
    let runs = matches!(status.state, ContainerState::Running { .. });
    runs && (container.startup_probe.is_none()
        || startup(inputs, &status.id) == Some(ProbeResult::Success))
}

fn startup(inputs: &PlanInputs<'_>, id: &ContainerId) -> Option<ProbeResult> {
    (inputs.probe)(id, ProbeKind::Startup)
}

fn keep_sidecar(
    inputs: &PlanInputs<'_>,
    index: usize,
    container: &Container,
    actions: &mut PodActions,
) {
    if !is_sidecar(container) {
        return;
    }
    let start = Start {
        kind: ContainerKind::Init,
        index,
    };
    match verdict(inputs, ContainerKind::Init, container) {
        Verdict::Keep(resize) => actions.resize.extend(resize),
        Verdict::Leave => {}
        Verdict::Start { remove } => {
            actions.remove.extend(remove);
            actions.start.push(start);
        }
        Verdict::Kill { kill, .. } => {
            actions.kill.push(kill);
            actions.start.push(start);
        }
    }
}
