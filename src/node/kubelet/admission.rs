//! Whether this node takes a pod that arrives bound to it: a pure function of the pod, the node and what runs here.

use apimachinery::{ObjectKey, Quantity};
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use semantics::resources::{Amounts, pod_requests};

use crate::container::sandbox::check_sysctls;
use crate::pods::Rejection;
use crate::pods::facts::{containers, init_containers, is_host_network, spec};

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
}

/// `None`: the pod is welcome.
pub(crate) fn judge(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    os(inputs)
        .or_else(|| node_affinity(inputs))
        .or_else(|| taints(inputs))
        .or_else(|| host_ports(inputs))
        .or_else(|| resources(inputs))
        .or_else(|| sysctls(inputs))
}

fn reject(reason: &str, message: impl Into<String>) -> Option<Rejection> {
    Some(Rejection { reason: reason.to_owned(), message: message.into() })
}

fn os(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let wanted = spec(inputs.pod).os.as_ref().map(|os| os.name.as_str()).unwrap_or_default();
    let selected = spec(inputs.pod).node_selector.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if !wanted.is_empty() && wanted != OS {
        return reject("PodOSNotSupported", format!("Failed to admit pod as the OS field doesn't match node OS: {wanted}"));
    }
    if selected.is_some_and(|os| os != OS) {
        return reject("PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label");
    }
    None
}

fn node_affinity(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let node = inputs.node?;
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let spec = spec(inputs.pod);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let fits = required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_fits(term, &labels, name)));
    if selected && fits { None } else { reject("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector") }
}

type Labels = std::collections::BTreeMap<String, String>;

fn term_fits(term: &NodeSelectorTerm, labels: &Labels, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that says nothing selects nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|expression| requirement_fits(expression, labels.get(&expression.key).map(String::as_str)))
        && fields.iter().all(|field| field.key == "metadata.name" && requirement_fits(field, Some(name)))
}

fn requirement_fits(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_named = value.is_some_and(|value| values.iter().any(|known| known == value));
    let compare = |holds: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|bound| bound.parse().ok());
        value.and_then(|value| value.parse().ok()).zip(bound).is_some_and(|(value, bound)| holds(value, bound))
    };
    match requirement.operator.as_str() {
        "In" => is_named,
        "NotIn" => !is_named,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}

/// Only taints that also evict keep a pod away that is bound already.
fn taints(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let taints = inputs.node?.spec.as_ref()?.taints.as_ref()?;
    if crate::pods::facts::is_static(inputs.pod) {
        return None;
    }
    let tolerations = spec(inputs.pod).tolerations.as_deref().unwrap_or_default();
    let untolerated = taints.iter().filter(|taint| taint.effect == "NoExecute").find(|taint| {
        !tolerations.iter().any(|toleration| {
            let key = toleration.key.as_deref().unwrap_or_default();
            let effect = toleration.effect.as_deref().unwrap_or_default();
            let same_value = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
            (effect.is_empty() || effect == taint.effect)
                && (key.is_empty() || key == taint.key)
                && (toleration.operator.as_deref() == Some("Exists") || same_value)
        })
    })?;
    let key = &untolerated.key;
    let value = untolerated.value.as_deref().unwrap_or_default();
    reject("TaintToleration", format!("Predicate TaintToleration failed: node(s) had untolerated taint {{{key}: {value}}}"))
}

fn host_ports(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let wanted = ports(inputs.pod);
    let taken: Vec<Port> = inputs.others.iter().flat_map(ports).collect();
    let clash = wanted.iter().any(|port| taken.iter().any(|other| port.clashes(other)));
    if clash {
        return reject("NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports");
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
            && (anywhere(&self.address) || anywhere(&other.address) || self.address == other.address)
    }
}

fn ports(pod: &Pod) -> Vec<Port> {
    let all = containers(pod).iter().chain(init_containers(pod)).flat_map(|container| container.ports.iter().flatten());
    all.filter_map(|port| {
        let number = port.host_port.or_else(|| is_host_network(pod).then_some(port.container_port)).filter(|number| *number > 0)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some(Port { protocol, address: port.host_ip.clone().unwrap_or_default(), number })
    })
    .collect()
}

fn resources(inputs: &AdmissionInputs<'_>) -> Option<Rejection> {
    let others = i64::try_from(inputs.others.len()).unwrap_or(i64::MAX);
    let pods_max = inputs.allocatable.get("pods").map_or(i64::MAX, |pods| pods.units());
    if others + 1 > pods_max {
        return reject("OutOfpods", format!("Node didn't have enough resource: pods, requested: 1, used: {others}, capacity: {pods_max}"));
    }
    for (name, wanted) in pod_requests(spec(inputs.pod)) {
        let capacity = inputs.allocatable.get(&name).copied();
        // Extended resources are counted by the scheduler and whoever put them on the node.
        let Some(capacity) = capacity.filter(|_| !wanted.is_zero()) else { continue };
        let free = inputs.free.get(&name).copied().unwrap_or(Quantity::ZERO);
        if wanted > free {
            let number = |amount: Quantity| if name == "cpu" { amount.millis() } else { amount.units() };
            let used = number(capacity) - number(free);
            return reject(
                &format!("OutOf{name}"),
                format!("Node didn't have enough resource: {name}, requested: {}, used: {used}, capacity: {}", number(wanted), number(capacity)),
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
    let active = table.all().into_iter().filter(crate::pods::PodHandle::is_active).filter_map(|handle| handle.pod());
    active.filter(|pod| crate::pods::facts::uid(pod) != uid).collect()
}

pub(crate) fn node_key(name: &str) -> ObjectKey {
    ObjectKey::cluster(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(pod: serde_json::Value, others: &[Pod]) -> Option<String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": pod})).unwrap();
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}})).unwrap();
        let allocatable: Amounts = [("cpu".to_owned(), Quantity::from_units(1)), ("pods".to_owned(), Quantity::from_units(2))].into();
        let inputs = AdmissionInputs {
            pod: &pod, node: Some(&node), free: &allocatable, allocatable: &allocatable, others, allowed_unsafe_sysctls: &[],
        };
        judge(&inputs).map(|rejection| rejection.reason)
    }

    #[test]
    fn each_predicate_has_its_reason() {
        let ports = json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]});
        let other: Pod = serde_json::from_value(json!({"spec": ports})).unwrap();
        assert_eq!(verdict(ports, std::slice::from_ref(&other)).as_deref(), Some("NodePorts"));
        assert_eq!(verdict(json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), &[]).as_deref(), Some("NodeAffinity"));
        assert_eq!(verdict(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), &[]), None);
        let cpu = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]});
        assert_eq!(verdict(cpu, &[]).as_deref(), Some("OutOfcpu"));
        assert_eq!(verdict(json!({"containers": [], "os": {"name": "windows"}}), &[]).as_deref(), Some("PodOSNotSupported"));
        assert_eq!(verdict(json!({"containers": []}), &[other.clone(), other]).as_deref(), Some("OutOfpods"));
    }
}
