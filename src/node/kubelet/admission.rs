//! Whether this node takes a pod that arrives bound to it: a pure function of the pod, the node and what runs here.

use std::collections::BTreeSet;

use apimachinery::{ObjectKey, Quantity};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use semantics::node_affinity::{NodeLabels, required_matches};
use semantics::qos::{QosClass, qos_class};
use semantics::resources::{Amounts, pod_requests};
use semantics::taints::{
    MEMORY_PRESSURE, NO_EXECUTE, NO_SCHEDULE, first_untolerated, is_tolerated,
};

use crate::container::sandbox::check_sysctls;
use crate::node::Pressure;
use crate::pods::Rejection;
use crate::pods::facts::{containers, init_containers, is_critical, is_host_network, spec};

/// The operating system this kubelet is for.
const OS: &str = "linux";

/// What the answer depends on.
pub(crate) struct AdmissionInputs<'a> {
    pub(crate) pod: &'a Pod,
    /// The node's object, if the API told it already.
    pub(crate) node: Option<&'a Node>,
    /// What the other pods leave.
    pub(crate) free: &'a Amounts,
    pub(crate) allocatable: &'a Amounts,
    /// The other active pods.
    pub(crate) others: &'a [Pod],
    pub(crate) allowed_unsafe_sysctls: &'a [String],
    /// What the node is short of.
    pub(crate) pressure: &'a BTreeSet<Pressure>,
}

/// `None`: the pod is welcome.
pub(crate) fn judge(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    pressure(inputs)
        .or_else(|| os(inputs))
        .or_else(|| node_affinity(inputs))
        .or_else(|| taints(inputs))
        .or_else(|| host_ports(inputs))
        .or_else(|| resources(inputs))
        .or_else(|| sysctls(inputs))
}

#[expect(clippy::unnecessary_wraps, reason = "every predicate ends with it")]
fn reject(reason: &str, message: impl Into<String>) -> Option<Rejection> {
    Some(Rejection {
        reason: reason.to_owned(),
        message: message.into(),
    })
}

/// A node that evicts pods takes no more of the kind it evicts.
fn pressure(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    if inputs.pressure.is_empty() || is_critical(inputs.pod) {
        return None;
    }
    let tolerations = spec(inputs.pod).tolerations.as_deref().unwrap_or_default();
    let taint = Taint {
        key: MEMORY_PRESSURE.to_owned(),
        effect: NO_SCHEDULE.to_owned(),
        ..Taint::default()
    };
    let only_memory = inputs
        .pressure
        .iter()
        .all(|pressure| *pressure == Pressure::Memory);
    let asks_for_something = qos_class(spec(inputs.pod)) != QosClass::BestEffort;
    if only_memory && (asks_for_something || is_tolerated(tolerations, &taint)) {
        return None;
    }
    let names: Vec<&str> = inputs
        .pressure
        .iter()
        .map(|pressure| match pressure {
            Pressure::Memory => "MemoryPressure",
            Pressure::Disk => "DiskPressure",
            Pressure::Pid => "PIDPressure",
        })
        .collect();
    reject(
        "Evicted",
        format!("The node had condition: [{}]. ", names.join(" ")),
    )
}

fn os(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let wanted = spec(inputs.pod)
        .os
        .as_ref()
        .map(|os| os.name.as_str())
        .unwrap_or_default();
    let selected = spec(inputs.pod)
        .node_selector
        .as_ref()
        .and_then(|labels| labels.get("kubernetes.io/os"));
    if !wanted.is_empty() && wanted != OS {
        return reject(
            "PodOSNotSupported",
            format!("Failed to admit pod as the OS field doesn't match node OS: {wanted}"),
        );
    }
    if selected.is_some_and(|os| os != OS) {
        return reject(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    None
}

fn node_affinity(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    if required_matches(spec(inputs.pod), &Labels(inputs.node?)) {
        return None;
    }
    reject(
        "NodeAffinity",
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    )
}

struct Labels<'a>(&'a Node);

impl NodeLabels for Labels<'_> {
    fn name(&self) -> &str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.0
            .metadata
            .labels
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }
}

/// Only taints that also evict keep a pod away that is bound already.
fn taints(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    if crate::pods::facts::is_static(inputs.pod) {
        return None;
    }
    let taints = inputs.node?.spec.as_ref()?.taints.as_ref()?;
    let tolerations = spec(inputs.pod).tolerations.as_deref().unwrap_or_default();
    let taint = first_untolerated(taints, tolerations, &[NO_EXECUTE])?;
    let value = taint.value.as_deref().unwrap_or_default();
    reject(
        "TaintToleration",
        format!(
            "Predicate TaintToleration failed: node(s) had untolerated taint {{{}: {value}}}",
            taint.key
        ),
    )
}

fn host_ports(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let wanted = ports(inputs.pod);
    let taken: Vec<Port> = inputs.others.iter().flat_map(ports).collect();
    let clash = wanted
        .iter()
        .any(|port| taken.iter().any(|other| port.clashes(other)));
    if clash {
        return reject(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        );
    }
    None
}

#[derive(Debug, PartialEq, Eq)]
struct Port {
    protocol: String,
    address: String,
    number: i32,
}

impl Port {
    fn clashes(&self, other: &Self) -> bool {
        let anywhere = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.number == other.number
            && self.protocol == other.protocol
            && (anywhere(&self.address)
                || anywhere(&other.address)
                || self.address == other.address)
    }
}

fn ports(pod: &Pod) -> Vec<Port> {
    let all = containers(pod)
        .iter()
        .chain(init_containers(pod))
        .flat_map(|container| container.ports.iter().flatten());
    all.filter_map(|port| {
        let number = port
            .host_port
            .or_else(|| is_host_network(pod).then_some(port.container_port))
            .filter(|number| *number > 0)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some(Port {
            protocol,
            address: port.host_ip.clone().unwrap_or_default(),
            number,
        })
    })
    .collect()
}

fn resources(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let others = i64::try_from(inputs.others.len()).unwrap_or(i64::MAX);
    let pods_max = inputs
        .allocatable
        .get("pods")
        .map_or(i64::MAX, |pods| pods.units());
    if others + 1 > pods_max {
        return reject(
            "OutOfpods",
            format!(
                "Node didn't have enough resource: pods, requested: 1, used: {others}, capacity: {pods_max}"
            ),
        );
    }
    for (name, wanted) in pod_requests(spec(inputs.pod)) {
        let capacity = inputs.allocatable.get(&name).copied();
        // Extended resources are counted by the scheduler and whoever put them on the node.
        let Some(capacity) = capacity.filter(|_| !wanted.is_zero()) else {
            continue;
        };
        let free = inputs.free.get(&name).copied().unwrap_or(Quantity::ZERO);
        if wanted > free {
            let number = |amount: Quantity| {
                if name == "cpu" {
                    amount.millis()
                } else {
                    amount.units()
                }
            };
            let used = number(capacity) - number(free);
            return reject(
                &format!("OutOf{name}"),
                format!(
                    "Node didn't have enough resource: {name}, requested: {}, used: {used}, capacity: {}",
                    number(wanted),
                    number(capacity)
                ),
            );
        }
    }
    None
}

fn sysctls(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let error = check_sysctls(inputs.pod, inputs.allowed_unsafe_sysctls).err()?;
    reject("SysctlForbidden", error.0)
}

/// The pods that count against a newcomer.
pub(crate) fn active_others(table: &crate::pods::PodTable, uid: &str) -> Vec<Pod> {
    let active = table
        .all()
        .into_iter()
        .filter(crate::pods::PodHandle::is_active)
        .filter_map(|handle| handle.pod());
    active
        .filter(|pod| crate::pods::facts::uid(pod) != uid)
        .collect()
}

pub(crate) fn node_key(name: &str) -> ObjectKey {
    ObjectKey::cluster(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(pod: serde_json::Value, others: &[Pod]) -> Option<String> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": pod}))
                .unwrap();
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}}))
                .unwrap();
        let allocatable: Amounts = [
            ("cpu".to_owned(), Quantity::from_units(1)),
            ("pods".to_owned(), Quantity::from_units(2)),
        ]
        .into();
        let inputs = AdmissionInputs {
            pod: &pod,
            node: Some(&node),
            free: &allocatable,
            allocatable: &allocatable,
            others,
            allowed_unsafe_sysctls: &[],
            pressure: &BTreeSet::new(),
        };
        judge(&inputs).map(|rejection| rejection.reason)
    }

    #[test]
    fn each_predicate_has_its_reason() {
        let ports =
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]});
        let other: Pod = serde_json::from_value(json!({"spec": ports})).unwrap();
        assert_eq!(
            verdict(ports, std::slice::from_ref(&other)).as_deref(),
            Some("NodePorts")
        );
        assert_eq!(
            verdict(
                json!({"containers": [], "nodeSelector": {"disk": "hdd"}}),
                &[]
            )
            .as_deref(),
            Some("NodeAffinity")
        );
        assert_eq!(
            verdict(
                json!({"containers": [], "nodeSelector": {"disk": "ssd"}}),
                &[]
            ),
            None
        );
        let cpu = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]});
        assert_eq!(verdict(cpu, &[]).as_deref(), Some("OutOfcpu"));
        assert_eq!(
            verdict(json!({"containers": [], "os": {"name": "windows"}}), &[]).as_deref(),
            Some("PodOSNotSupported")
        );
        assert_eq!(
            verdict(json!({"containers": []}), &[other.clone(), other]).as_deref(),
            Some("OutOfpods")
        );
    }
}
