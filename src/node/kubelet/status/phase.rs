//! `status.phase` from the states of the containers.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use semantics::resources::is_sidecar;

use crate::pods::facts::{containers, init_containers, is_static, restarts_after, spec};

/// What the phase depends on, beside the spec.
pub(crate) struct PhaseInputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) containers: &'a [ContainerStatus],
    pub(crate) init_containers: &'a [ContainerStatus],
    /// Containers that were killed to be started anew.
    pub(crate) owed: &'a BTreeSet<String>,
    /// No container will be started any more.
    pub(crate) is_ending: bool,
    /// A regular container has been started in this sandbox.
    pub(crate) is_initialised: bool,
}

/// How a container counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// No status at all.
    Unknown,
    Running,
    /// Ended; `again` if it will be started again.
    Stopped {
        code: i32,
        again: bool,
    },
    /// Not started yet.
    Waiting,
}

pub(crate) fn pod_phase(inputs: &PhaseInputs<'_>) -> &'static str {
    let pod = inputs.pod;
    let (sidecars, plain): (Vec<&Container>, Vec<&Container>) = init_containers(pod)
        .iter()
        .partition(|init| is_sidecar(init));
    let plain: Vec<Standing> = plain
        .iter()
        .map(|init| standing(inputs, init, inputs.init_containers))
        .collect();
    let failed_for_good = |standing: &Standing| matches!(standing, Standing::Stopped { code, again: false } if *code != 0);
    if plain.iter().any(failed_for_good) {
        return "Failed";
    }
    let is_pending = |standing: &Standing| !matches!(standing, Standing::Stopped { .. });
    let regular: Vec<Standing> = containers(pod)
        .iter()
        .map(|container| standing(inputs, container, inputs.containers))
        .collect();
    let sidecars: Vec<Sidecar> = sidecars
        .iter()
        .map(|sidecar| sidecar_standing(sidecar, inputs.init_containers))
        .collect();
    let sidecar_pends = sidecars.iter().any(|sidecar| {
        matches!(
            sidecar,
            Sidecar::Waiting | Sidecar::Starting | Sidecar::Unknown
        )
    });
    if plain.iter().any(is_pending) || (sidecar_pends && !inputs.is_initialised) {
        return "Pending";
    }
    let waiting = regular.contains(&Standing::Waiting) || sidecars.contains(&Sidecar::Waiting);
    let unknown = regular.contains(&Standing::Unknown) || sidecars.contains(&Sidecar::Unknown);
    let running = regular.contains(&Standing::Running)
        || sidecars
            .iter()
            .any(|sidecar| matches!(sidecar, Sidecar::Started | Sidecar::Starting));
    if waiting || unknown {
        return "Pending";
    }
    if running {
        return "Running";
    }
    phase_of_stopped(inputs, &regular)
}

fn phase_of_stopped(inputs: &PhaseInputs<'_>, regular: &[Standing]) -> &'static str {
    if regular.is_empty() {
        return "Pending";
    }
    let all_succeeded = regular
        .iter()
        .all(|standing| matches!(standing, Standing::Stopped { code: 0, .. }));
    let none_comes_back = regular
        .iter()
        .all(|standing| matches!(standing, Standing::Stopped { again: false, .. }));
    let is_over = none_comes_back || (inputs.is_ending && !is_static(inputs.pod));
    match (is_over, all_succeeded) {
        (false, _) => "Running",
        (true, true) => "Succeeded",
        (true, false) => "Failed",
    }
}

fn standing(inputs: &PhaseInputs<'_>, container: &Container, all: &[ContainerStatus]) -> Standing {
    let Some(status) = all.iter().find(|status| status.name == container.name) else {
        return Standing::Unknown;
    };
    let Some(state) = &status.state else {
        return Standing::Unknown;
    };
    if state.running.is_some() {
        return Standing::Running;
    }
    let ended = state.terminated.as_ref().or_else(|| {
        state.waiting.as_ref()?;
        status.last_state.as_ref()?.terminated.as_ref()
    });
    match ended {
        Some(ended) => Standing::Stopped {
            code: ended.exit_code,
            again: inputs.owed.contains(&container.name)
                || restarts_after(container, spec(inputs.pod), ended.exit_code),
        },
        None if state.waiting.is_some() => Standing::Waiting,
        None => Standing::Unknown,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sidecar {
    Unknown,
    Waiting,
    Starting,
    Started,
    Stopped,
}

fn sidecar_standing(container: &Container, all: &[ContainerStatus]) -> Sidecar {
    let Some(status) = all.iter().find(|status| status.name == container.name) else {
        return Sidecar::Unknown;
    };
    let state = status.state.clone().unwrap_or_default();
    let ended_before = status
        .last_state
        .as_ref()
        .is_some_and(|state| state.terminated.is_some());
    match (state.running, state.terminated, state.waiting) {
        (Some(_), _, _) if status.started == Some(true) => Sidecar::Started,
        (Some(_), _, _) => Sidecar::Starting,
        (_, Some(_), _) => Sidecar::Stopped,
        (_, _, Some(_)) if ended_before => Sidecar::Stopped,
        (_, _, Some(_)) => Sidecar::Waiting,
        _ => Sidecar::Unknown,
    }
}
