//! `status.containerStatuses[]`: what the runtime has of a container, on top of what was known before.

use cri::{ContainerState as Running, ContainerStatus as Observation};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use semantics::resources::is_sidecar;

use crate::container::labels::image_reference_of;
use crate::container::resources::container_resize;
use crate::pods::facts::{ContainerKind, containers, restarts_after, spec};
use crate::probes::{ProbeKind, ProbeResult};
use crate::status::pod_status::{ResizeState, StatusInputs};
use crate::time::api_time;

/// Why a container could not be started, in the words of `state.waiting`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartError {
    pub(crate) reason: String,
    pub(crate) message: String,
}

const UNKNOWN: &str = "ContainerStatusUnknown";
/// The exit code of a container that ended while nobody watched.
const UNKNOWN_CODE: i32 = 137;

pub(crate) fn container_status(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let newest = inputs.observed.newest(&container.name);
    let mut status = match newest {
        Some(observation) => observed(inputs, observation, old),
        None => missing(inputs, container, old),
    };
    status.name.clone_from(&container.name);
    status.volume_mounts = volume_mounts(container);
    if kind == ContainerKind::Init && initialised_without_record(inputs, container, &status, newest)
    {
        status.state = Some(terminated(ContainerStateTerminated {
            reason: Some("Completed".to_owned()),
            message: Some("Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally".to_owned()),
            ..ContainerStateTerminated::default()
        }));
    }
    if let Some(error) = inputs.start_errors.get(&container.name)
        && should_start(inputs, kind, container, newest)
    {
        wait_with(&mut status, error);
    }
    set_resources(inputs, container, newest, old, &mut status);
    set_started_and_ready(inputs, kind, container, newest, &mut status);
    status
}

fn observed(
    inputs: &StatusInputs<'_>,
    observation: &Observation,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let id = container_id(inputs.runtime_name, observation);
    let attempt = i32::try_from(observation.attempt).unwrap_or(i32::MAX);
    let previous = inputs
        .observed
        .all_of(&observation.name)
        .nth(1)
        .map(|previous| state_of(inputs, previous));
    let previous = previous.filter(|state| state.terminated.is_some());
    let known_before = old.and_then(|old| {
        let is_other = old.container_id.as_deref() != Some(&id);
        old.state
            .clone()
            .filter(|state| is_other && state.terminated.is_some())
            .or_else(|| old.last_state.clone())
    });
    ContainerStatus {
        container_id: Some(id),
        image: observation.image.clone(),
        image_id: image_reference_of(observation),
        restart_count: old.map_or(0, |old| old.restart_count).max(attempt),
        state: Some(state_of(inputs, observation)),
        last_state: Some(previous.or(known_before).unwrap_or_default()),
        user: observation
            .user
            .as_ref()
            .map(|(uid, gid, groups)| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: i64::from(*uid),
                    gid: i64::from(*gid),
                    supplemental_groups: Some(
                        groups.iter().map(|group| i64::from(*group)).collect(),
                    ),
                }),
            }),
        ..ContainerStatus::default()
    }
}

pub(crate) fn container_id(runtime_name: &str, observation: &Observation) -> String {
    format!("{runtime_name}://{}", observation.id)
}

fn state_of(inputs: &StatusInputs<'_>, observation: &Observation) -> ContainerState {
    match &observation.state {
        Running::Created => waiting("", ""),
        Running::Running { started_at } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(api_time(*started_at)),
            }),
            ..ContainerState::default()
        },
        Running::Exited {
            started_at,
            finished_at,
            exit_code,
            reason,
            message,
        } => {
            let last_words = inputs
                .observed
                .messages
                .get(&observation.id)
                .map_or("", String::as_str);
            let texts: Vec<&str> = [message.as_str(), last_words]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect();
            terminated(ContainerStateTerminated {
                container_id: Some(container_id(inputs.runtime_name, observation)),
                exit_code: *exit_code,
                // Without a start the moment of making stands in: clients expect both ends.
                started_at: Some(api_time(started_at.unwrap_or(observation.created_at))),
                finished_at: Some(api_time(*finished_at)),
                reason: Some(reason.as_str().to_owned()),
                message: Some(texts.join(": ")).filter(|text| !text.is_empty()),
                signal: None,
            })
        }
    }
}

/// The runtime has no record: not made yet, or lost (a reboot, somebody removed it).
fn missing(
    inputs: &StatusInputs<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let reason = if crate::pods::facts::init_containers(inputs.pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    let fresh = ContainerStatus {
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, "")),
        last_state: Some(ContainerState::default()),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return fresh };
    let old_state = old.state.clone().unwrap_or_default();
    if old_state.terminated.is_some() {
        return ContainerStatus {
            allocated_resources: None,
            resources: None,
            ..old.clone()
        };
    }
    let mut status = ContainerStatus {
        restart_count: old.restart_count,
        last_state: Some(old.last_state.clone().unwrap_or_default()),
        ..fresh
    };
    let had_ended_before = status
        .last_state
        .as_ref()
        .is_some_and(|state| state.terminated.is_some());
    if old_state.running.is_some() && !had_ended_before {
        status.last_state = Some(terminated(ContainerStateTerminated {
            reason: Some(UNKNOWN.to_owned()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running"
                    .to_owned(),
            ),
            exit_code: UNKNOWN_CODE,
            ..ContainerStateTerminated::default()
        }));
        if inputs.pod.metadata.deletion_timestamp.is_none() {
            status.restart_count += 1;
        }
    }
    status
}

/// Records of init containers may be gone when regular ones exist: they must have ended well.
fn initialised_without_record(
    inputs: &StatusInputs<'_>,
    container: &Container,
    status: &ContainerStatus,
    newest: Option<&Observation>,
) -> bool {
    let waits = status
        .state
        .as_ref()
        .is_some_and(|state| state.waiting.is_some());
    newest.is_none()
        && waits
        && !is_sidecar(container)
        && containers(inputs.pod)
            .iter()
            .any(|container| inputs.observed.newest(&container.name).is_some())
}

/// Whether the next turn would start it, were it not for an error.
fn should_start(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    newest: Option<&Observation>,
) -> bool {
    if inputs.pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match newest.map(|newest| &newest.state) {
        None | Some(Running::Created) => true,
        Some(Running::Running { .. }) => false,
        Some(Running::Exited { exit_code, .. }) => {
            let passed = kind == ContainerKind::Init && !is_sidecar(container) && *exit_code == 0;
            !passed
                && (inputs.owed.contains(&container.name)
                    || crate::pods::facts::is_accompanying(kind, container)
                    || restarts_after(container, spec(inputs.pod), *exit_code))
        }
    }
}

fn wait_with(status: &mut ContainerStatus, error: &StartError) {
    if status
        .state
        .as_ref()
        .is_some_and(|state| state.terminated.is_some())
    {
        status.last_state = status.state.take();
    }
    status.state = Some(waiting(&error.reason, &error.message));
}

/// Resources follow the spec once they are in force; while a change waits, the old ones are shown.
fn set_resources(
    inputs: &StatusInputs<'_>,
    container: &Container,
    newest: Option<&Observation>,
    old: Option<&ContainerStatus>,
    status: &mut ContainerStatus,
) {
    let Some(newest) = newest else { return };
    let is_running = matches!(newest.state, Running::Running { .. });
    let is_accepted = !matches!(
        inputs.resize,
        ResizeState::Deferred(_) | ResizeState::Infeasible(_)
    );
    let is_in_force = !is_running || container_resize(inputs.pod, container, newest).is_none();
    let wanted = container.resources.clone().unwrap_or_default();
    status.allocated_resources = if is_accepted {
        wanted.requests.clone()
    } else {
        old.and_then(|old| old.allocated_resources.clone())
    };
    let known = old.and_then(|old| old.resources.clone());
    status.resources = Some(if is_in_force && is_accepted {
        wanted
    } else {
        known.unwrap_or(wanted)
    });
}

fn set_started_and_ready(
    inputs: &StatusInputs<'_>,
    kind: ContainerKind,
    container: &Container,
    newest: Option<&Observation>,
    status: &mut ContainerStatus,
) {
    if kind == ContainerKind::Ephemeral {
        return;
    }
    let is_running = status
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some());
    let passed = |probe: ProbeKind| {
        probe.of(container).is_none()
            || newest.is_some_and(|newest| {
                (inputs.probe)(&newest.id, probe) == Some(ProbeResult::Success)
            })
    };
    let started = is_running && passed(ProbeKind::Startup);
    status.started = Some(started);
    status.ready = if kind == ContainerKind::Init && !is_sidecar(container) {
        status
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .is_some_and(|terminated| terminated.exit_code == 0)
    } else {
        started && passed(ProbeKind::Readiness)
    };
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container
        .volume_mounts
        .as_ref()
        .filter(|mounts| !mounts.is_empty())?;
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only,
            recursive_read_only: (mount.read_only == Some(true)).then(|| recursive.to_owned()),
            volume_status: None,
        }
    };
    Some(mounts.iter().map(status).collect())
}

/// A container of a pod that has ended has ended, whatever is known of it.
pub(crate) fn end_for_good(status: &mut ContainerStatus) {
    if status
        .state
        .as_ref()
        .is_none_or(|state| state.terminated.is_none())
    {
        status.state = Some(terminated(ContainerStateTerminated {
            reason: Some(UNKNOWN.to_owned()),
            message: Some(
                "The container could not be located when the pod was terminated".to_owned(),
            ),
            exit_code: UNKNOWN_CODE,
            ..ContainerStateTerminated::default()
        }));
        status.ready = false;
        status.started = Some(false);
    }
}

fn terminated(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let waiting = ContainerStateWaiting {
        reason: text(reason),
        message: text(message),
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}
