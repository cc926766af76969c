//! The whole status of a pod as a pure function; nothing here looks at the clock, the disk or the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cri::ContainerId;
use env::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use semantics::containers::as_container;
use semantics::qos::qos_class;

use crate::pods::facts::{
    ContainerKind, containers, ephemeral_containers, init_containers, is_host_network, is_terminal,
    spec,
};
use crate::pods::{Eviction, Rejection};
use crate::probes::{ProbeKind, ProbeResult};
use crate::status::conditions::{ConditionInputs, OWNED, condition, pod_conditions, with_times};
use crate::status::container_status::{StartError, container_status, end_for_good};
use crate::status::phase::{PhaseInputs, pod_phase};
use crate::time::api_time;
use crate::worker::{Observed, Phase, needs_new_sandbox};

/// A change of resources in place, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResizeState {
    #[default]
    None,
    InProgress,
    /// Fits the node, but not now.
    Deferred(String),
    /// Never fits this node.
    Infeasible(String),
}

/// Everything a status depends on.
pub(crate) struct StatusInputs<'a> {
    pub(crate) pod: &'a Pod,
    /// The status this kubelet computed last; else the API's.
    pub(crate) old: Option<&'a PodStatus>,
    pub(crate) observed: &'a Observed,
    pub(crate) worker_phase: Phase,
    pub(crate) start_errors: &'a BTreeMap<String, StartError>,
    /// Containers that were killed to be started anew.
    pub(crate) owed: &'a BTreeSet<String>,
    pub(crate) probe: &'a dyn Fn(&ContainerId, ProbeKind) -> Option<ProbeResult>,
    pub(crate) eviction: Option<&'a Eviction>,
    pub(crate) rejection: Option<&'a Rejection>,
    pub(crate) resize: &'a ResizeState,
    pub(crate) host_ips: &'a [IpAddr],
    /// Before `://` in container ids.
    pub(crate) runtime_name: &'a str,
    pub(crate) now: Timestamp,
}

/// A status, and whether the pod has ended by itself (it may be that the status must not say so yet).
pub(crate) struct Computed {
    pub(crate) status: PodStatus,
    pub(crate) has_ended: bool,
}

pub(crate) fn compute(inputs: &StatusInputs<'_>) -> Computed {
    if let Some(rejection) = inputs.rejection {
        return Computed {
            status: rejected(inputs, rejection),
            has_ended: true,
        };
    }
    let pod = inputs.pod;
    if let Some(status) = ended_without_trace(inputs) {
        return Computed {
            status,
            has_ended: true,
        };
    }
    let mut containers = statuses(inputs, ContainerKind::Regular);
    let mut init_containers = statuses(inputs, ContainerKind::Init);
    let is_over = inputs.worker_phase >= Phase::Terminated;
    if is_over {
        if init_containers
            .iter()
            .zip(crate::pods::facts::init_containers(pod))
            .all(|(status, init)| has_passed(status, init))
        {
            containers.iter_mut().for_each(end_for_good);
        }
        end_init(pod, &mut init_containers);
    }
    let actual = phase(inputs, &containers, &init_containers);
    let has_ended = is_terminal(Some(&actual));
    let phase = reported_phase(inputs, actual);
    let mut status = PodStatus {
        phase: Some(phase.clone()),
        qos_class: Some(qos_class(spec(pod)).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        start_time: Some(
            inputs
                .old
                .and_then(|old| old.start_time.clone())
                .unwrap_or_else(|| api_time(inputs.now)),
        ),
        ephemeral_container_statuses: some(statuses(inputs, ContainerKind::Ephemeral)),
        ..PodStatus::default()
    };
    set_reason(inputs, &phase, &mut status);
    set_addresses(inputs, &mut status);
    let condition_inputs = ConditionInputs {
        pod,
        phase: &phase,
        containers: &containers,
        init_containers: &init_containers,
        has_sandbox: needs_new_sandbox(pod, inputs.observed).is_none(),
    };
    status.conditions = Some(all_conditions(inputs, &condition_inputs, is_over));
    status.container_statuses = some(containers);
    status.init_container_statuses = some(init_containers);
    Computed { status, has_ended }
}

/// The status of a pod that ended in an earlier life of this node, of which nothing is left: it stays as it is.
fn ended_without_trace(inputs: &StatusInputs<'_>) -> Option<PodStatus> {
    let status = inputs
        .pod
        .status
        .as_ref()
        .filter(|status| is_terminal(status.phase.as_deref()))?;
    let nothing = inputs.observed.containers.is_empty() && inputs.observed.sandboxes.is_empty();
    nothing.then(|| status.clone())
}

fn has_passed(status: &ContainerStatus, init: &k8s_openapi::api::core::v1::Container) -> bool {
    status.ready || (semantics::resources::is_sidecar(init) && status.container_id.is_some())
}

fn some(list: Vec<ContainerStatus>) -> Option<Vec<ContainerStatus>> {
    Some(list).filter(|list| !list.is_empty())
}

fn statuses(inputs: &StatusInputs<'_>, kind: ContainerKind) -> Vec<ContainerStatus> {
    let pod = inputs.pod;
    let specs: Vec<_> = match kind {
        ContainerKind::Init => init_containers(pod).to_vec(),
        ContainerKind::Regular => containers(pod).to_vec(),
        ContainerKind::Ephemeral => ephemeral_containers(pod).iter().map(as_container).collect(),
    };
    let old = inputs.old.and_then(|old| match kind {
        ContainerKind::Init => old.init_container_statuses.as_deref(),
        ContainerKind::Regular => old.container_statuses.as_deref(),
        ContainerKind::Ephemeral => old.ephemeral_container_statuses.as_deref(),
    });
    let old_of = |name: &str| {
        old.unwrap_or_default()
            .iter()
            .find(|status| status.name == name)
    };
    let mut made: Vec<ContainerStatus> = specs
        .iter()
        .map(|container| container_status(inputs, kind, container, old_of(&container.name)))
        .collect();
    if kind != ContainerKind::Init {
        made.sort_by(|left, right| left.name.cmp(&right.name));
    }
    made
}

/// Init containers that were never reached stay waiting; the one that was under way has ended.
fn end_init(pod: &Pod, statuses: &mut [ContainerStatus]) {
    for (status, container) in statuses.iter_mut().zip(init_containers(pod)) {
        let passed = has_passed(status, container);
        if status.container_id.is_none()
            && status
                .state
                .as_ref()
                .is_none_or(|state| state.terminated.is_none())
        {
            return;
        }
        end_for_good(status);
        if !passed {
            return;
        }
    }
}

fn phase(
    inputs: &StatusInputs<'_>,
    containers: &[ContainerStatus],
    init: &[ContainerStatus],
) -> String {
    let api = inputs
        .pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let old = inputs.old.and_then(|old| old.phase.as_deref());
    // A pod that has ended stays as it ended.
    if let Some(ended) = [api, old]
        .into_iter()
        .flatten()
        .find(|phase| is_terminal(Some(phase)))
    {
        return ended.to_owned();
    }
    // How the containers of an evicted pod end says nothing; it is reported once none of them runs.
    if inputs.eviction.is_some() && inputs.worker_phase >= Phase::Terminating {
        return "Failed".to_owned();
    }
    let current = inputs.observed.sandboxes.first().map(|sandbox| &sandbox.id);
    let is_initialised = crate::pods::facts::containers(inputs.pod)
        .iter()
        .any(|container| {
            inputs
                .observed
                .newest(&container.name)
                .is_some_and(|status| Some(&status.sandbox) == current)
        });
    let is_ending = inputs.worker_phase >= Phase::Terminating;
    let phase = pod_phase(&PhaseInputs {
        pod: inputs.pod,
        containers,
        init_containers: init,
        owed: inputs.owed,
        is_ending,
        is_initialised,
    });
    let is_over = inputs.worker_phase >= Phase::Terminated;
    if is_over && !is_terminal(Some(phase)) {
        return "Failed".to_owned();
    }
    phase.to_owned()
}

/// A pod is reported as ended only when nothing of it runs any more.
fn reported_phase(inputs: &StatusInputs<'_>, actual: String) -> String {
    let api = inputs
        .pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let old = inputs.old.and_then(|old| old.phase.as_deref());
    let said_already = is_terminal(api) || is_terminal(old);
    if is_terminal(Some(&actual)) && !said_already && inputs.observed.is_anything_running() {
        return old.or(api).unwrap_or("Running").to_owned();
    }
    actual
}

fn set_reason(inputs: &StatusInputs<'_>, phase: &str, status: &mut PodStatus) {
    let same = inputs.old.filter(|old| old.phase.as_deref() == Some(phase));
    status.reason = same.and_then(|old| old.reason.clone());
    status.message = same.and_then(|old| old.message.clone());
    if let Some(eviction) = inputs.eviction.filter(|_| phase == "Failed") {
        status.reason = Some(eviction.reason.clone());
        status.message = Some(eviction.message.clone());
    }
}

fn set_addresses(inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let hosts: Vec<String> = inputs.host_ips.iter().map(ToString::to_string).collect();
    status.host_ip = hosts.first().cloned();
    status.host_ips = Some(
        hosts
            .iter()
            .map(|ip| HostIP { ip: ip.clone() })
            .collect::<Vec<_>>(),
    )
    .filter(|ips| !ips.is_empty());
    let newest = inputs.observed.sandboxes.first();
    let observed: Vec<String> = newest
        .into_iter()
        .flat_map(|sandbox| &sandbox.addresses)
        .map(ToString::to_string)
        .collect();
    let old = || {
        inputs
            .old
            .and_then(|old| old.pod_ips.clone())
            .unwrap_or_default()
    };
    let ips: Vec<PodIP> = if is_host_network(inputs.pod) {
        if newest.is_some() {
            hosts.into_iter().map(|ip| PodIP { ip }).collect()
        } else {
            old()
        }
    } else if observed.is_empty() && inputs.worker_phase >= Phase::Terminating {
        old()
    } else {
        observed.into_iter().map(|ip| PodIP { ip }).collect()
    };
    status.pod_ip = ips.first().map(|ip| ip.ip.clone());
    status.pod_ips = Some(ips).filter(|ips| !ips.is_empty());
}

fn all_conditions(
    inputs: &StatusInputs<'_>,
    from: &ConditionInputs<'_>,
    is_over: bool,
) -> Vec<PodCondition> {
    let api = inputs
        .pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let others: Vec<PodCondition> = api
        .iter()
        .filter(|condition| !OWNED.contains(&condition.type_.as_str()))
        .cloned()
        .collect();
    let mut own = pod_conditions(from, &others);
    match inputs.resize {
        ResizeState::None => {}
        ResizeState::InProgress => {
            own.push(condition(inputs.pod, "PodResizeInProgress", "True", "", ""));
        }
        ResizeState::Deferred(why) => own.push(condition(
            inputs.pod,
            "PodResizePending",
            "True",
            "Deferred",
            why,
        )),
        ResizeState::Infeasible(why) => own.push(condition(
            inputs.pod,
            "PodResizePending",
            "True",
            "Infeasible",
            why,
        )),
    }
    if let Some((eviction, reason)) = inputs
        .eviction
        .filter(|_| is_over)
        .and_then(|eviction| Some((eviction, eviction.disruption?)))
    {
        own.push(condition(
            inputs.pod,
            "DisruptionTarget",
            "True",
            reason,
            &eviction.message,
        ));
    }
    with_times(
        &mut own,
        inputs.old.or(inputs.pod.status.as_ref()),
        inputs.now,
    );
    let mut all: Vec<PodCondition> = others
        .into_iter()
        .filter(|other| own.iter().all(|own| own.type_ != other.type_))
        .collect();
    all.extend(own);
    all
}

/// A pod this node refused: failed, with nothing said of containers.
fn rejected(inputs: &StatusInputs<'_>, rejection: &Rejection) -> PodStatus {
    let api = inputs.pod.status.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(rejection.reason.clone()),
        message: Some(format!("Pod was rejected: {}", rejection.message)),
        qos_class: Some(qos_class(spec(inputs.pod)).as_str().to_owned()),
        observed_generation: inputs.pod.metadata.generation,
        start_time: Some(
            api.start_time
                .clone()
                .unwrap_or_else(|| api_time(inputs.now)),
        ),
        conditions: api.conditions,
        ..PodStatus::default()
    }
}
