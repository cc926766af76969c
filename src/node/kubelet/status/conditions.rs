//! `status.conditions` that the kubelet owns.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use semantics::resources::is_sidecar;

use crate::pods::facts::{containers, init_containers, spec};
use crate::time::api_time;
use env::Timestamp;

/// Conditions that nobody but the kubelet writes.
pub(crate) const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

/// What the conditions depend on.
pub(crate) struct ConditionInputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) phase: &'a str,
    pub(crate) containers: &'a [ContainerStatus],
    pub(crate) init_containers: &'a [ContainerStatus],
    pub(crate) has_sandbox: bool,
}

/// A condition before times are known.
struct Judgement {
    status: &'static str,
    reason: &'static str,
    message: String,
}

const TRUE: Judgement = Judgement {
    status: "True",
    reason: "",
    message: String::new(),
};

fn not(reason: &'static str, message: String) -> Judgement {
    Judgement {
        status: "False",
        reason,
        message,
    }
}

/// The conditions that every pod has, without times.
pub(crate) fn pod_conditions(
    inputs: &ConditionInputs<'_>,
    others: &[PodCondition],
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(inputs);
    let ready = if containers_ready.status == "True" {
        readiness_gates(inputs.pod, others)
    } else {
        clone(&containers_ready)
    };
    let sandbox = if inputs.has_sandbox {
        TRUE
    } else {
        not("", String::new())
    };
    let made = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(inputs)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", TRUE),
    ];
    made.into_iter()
        .map(|(kind, judgement)| {
            condition(
                inputs.pod,
                kind,
                judgement.status,
                judgement.reason,
                &judgement.message,
            )
        })
        .collect()
}

pub(crate) fn condition(
    pod: &Pod,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> PodCondition {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: text(reason),
        message: text(message),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn clone(judgement: &Judgement) -> Judgement {
    Judgement {
        status: judgement.status,
        reason: judgement.reason,
        message: judgement.message.clone(),
    }
}

fn containers_ready(inputs: &ConditionInputs<'_>) -> Judgement {
    let sidecars = init_containers(inputs.pod)
        .iter()
        .filter(|init| is_sidecar(init));
    let all = sidecars.map(|sidecar| (&sidecar.name, inputs.init_containers));
    let all = all.chain(
        containers(inputs.pod)
            .iter()
            .map(|container| (&container.name, inputs.containers)),
    );
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for (name, statuses) in all {
        match statuses.iter().find(|status| status.name == *name) {
            None => unknown.push(name.as_str()),
            Some(status) if !status.ready => unready.push(name.as_str()),
            Some(_) => {}
        }
    }
    match inputs.phase {
        "Succeeded" if unknown.is_empty() => return not("PodCompleted", String::new()),
        "Failed" => return not("PodFailed", String::new()),
        _ => {}
    }
    let message = joined(&[
        ("containers with unknown status", &unknown),
        ("containers with unready status", &unready),
    ]);
    if message.is_empty() {
        TRUE
    } else {
        not("ContainersNotReady", message)
    }
}

fn initialized(inputs: &ConditionInputs<'_>) -> Judgement {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for init in init_containers(inputs.pod) {
        match inputs
            .init_containers
            .iter()
            .find(|status| status.name == init.name)
        {
            None => unknown.push(init.name.as_str()),
            Some(status) => {
                let passed = if is_sidecar(init) {
                    status.started == Some(true)
                } else {
                    status.ready
                };
                if !passed {
                    incomplete.push(init.name.as_str());
                }
            }
        }
    }
    if inputs.phase == "Succeeded" && unknown.is_empty() {
        return Judgement {
            reason: "PodCompleted",
            ..TRUE
        };
    }
    let has_started = |status: &ContainerStatus| {
        let ran = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
            state
                .as_ref()
                .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        };
        ran(&status.state)
            || status
                .last_state
                .as_ref()
                .is_some_and(|state| state.terminated.is_some())
    };
    if inputs.containers.iter().any(has_started) {
        return TRUE;
    }
    let message = joined(&[
        ("containers with unknown status", &unknown),
        ("containers with incomplete status", &incomplete),
    ]);
    if message.is_empty() {
        TRUE
    } else {
        not("ContainersNotInitialized", message)
    }
}

fn readiness_gates(pod: &Pod, others: &[PodCondition]) -> Judgement {
    let mut messages = Vec::new();
    for gate in spec(pod).readiness_gates.iter().flatten() {
        match others
            .iter()
            .find(|condition| condition.type_ == gate.condition_type)
        {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => messages.push(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        TRUE
    } else {
        not("ReadinessGatesNotReady", messages.join(", "))
    }
}

/// `what: [a b], …` for the lists that are not empty.
fn joined(lists: &[(&str, &Vec<&str>)]) -> String {
    let texts = lists.iter().filter(|(_, names)| !names.is_empty());
    texts
        .map(|(what, names)| format!("{what}: [{}]", names.join(" ")))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Times: a condition keeps its transition time while its status stays.
pub(crate) fn with_times(conditions: &mut [PodCondition], old: Option<&PodStatus>, now: Timestamp) {
    let before = old
        .and_then(|old| old.conditions.as_deref())
        .unwrap_or_default();
    for condition in conditions {
        let same = before
            .iter()
            .find(|old| old.type_ == condition.type_ && old.status == condition.status);
        let since = same.and_then(|old| old.last_transition_time.clone());
        condition.last_transition_time = Some(since.unwrap_or_else(|| api_time(now)));
        condition.last_probe_time = None;
    }
}
