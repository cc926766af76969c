//! What objects use of a resource quota, and which pods a scoped quota counts.

use std::time::Duration;

use apimachinery::Quantity;
use env::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, PodSpec, ResourceQuotaSpec, ScopedResourceSelectorRequirement,
    Service,
};

use crate::qos::{QosClass, qos_class};
use crate::resources::{Amounts, pod_limits, pod_requests};

const ONE: i64 = 1;

/// The name under which objects of a kind are counted: `count/replicasets.apps`.
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() {
        format!("count/{resource}")
    } else {
        format!("count/{resource}.{group}")
    }
}

/// What a pod uses: one of the pods, and its requests and limits until it has ended.
pub fn pod_usage(pod: &Pod, now: Timestamp) -> Amounts {
    let mut usage = Amounts::from([(count_name("", "pods"), Quantity::from_units(ONE))]);
    if !uses_compute(pod, now) {
        return usage;
    }
    usage.insert("pods".into(), Quantity::from_units(ONE));
    let Some(spec) = &pod.spec else { return usage };
    for (name, amount) in pod_requests(spec) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || name.starts_with("hugepages-")
        {
            usage.insert(name.clone(), amount);
        }
        usage.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_limits(spec) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format!("limits.{name}"), amount);
        }
    }
    usage
}

/// A pod that has ended, or should have by its grace period, uses nothing any more.
fn uses_compute(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return false;
    }
    let Some(deleted) = &pod.metadata.deletion_timestamp else {
        return true;
    };
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    now <= Timestamp::from_jiff(deleted.0).saturating_add(grace)
}

/// What a service uses: itself, its node ports, its load balancer.
pub fn service_usage(service: &Service) -> Amounts {
    let spec = service.spec.clone().unwrap_or_default();
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let ports = i64::try_from(spec.ports.map_or(0, |ports| ports.len())).unwrap_or(i64::MAX);
    let has_node_ports = match kind {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    };
    Amounts::from([
        ("services".into(), Quantity::from_units(ONE)),
        (count_name("", "services"), Quantity::from_units(ONE)),
        (
            "services.nodeports".into(),
            Quantity::from_units(if has_node_ports { ports } else { 0 }),
        ),
        (
            "services.loadbalancers".into(),
            Quantity::from_units(i64::from(kind == "LoadBalancer")),
        ),
    ])
}

/// What a claim uses: itself and its storage, in all and of its class.
pub fn claim_usage(claim: &PersistentVolumeClaim) -> Amounts {
    let one = Quantity::from_units(ONE);
    let mut usage = Amounts::from([
        ("persistentvolumeclaims".into(), one),
        (count_name("", "persistentvolumeclaims"), one),
    ]);
    let Some(spec) = &claim.spec else {
        return usage;
    };
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let storage = requests.and_then(|requests| Quantity::parse(&requests.get("storage")?.0).ok());
    if let Some(storage) = storage {
        usage.insert("requests.storage".into(), storage);
    }
    if let Some(class) = spec
        .storage_class_name
        .as_ref()
        .filter(|class| !class.is_empty())
    {
        usage.insert(
            format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"),
            one,
        );
        if let Some(storage) = storage {
            usage.insert(
                format!("{class}.storageclass.storage.k8s.io/requests.storage"),
                storage,
            );
        }
    }
    usage
}

/// Is the quota limited to some pods?
pub fn is_scoped(quota: &ResourceQuotaSpec) -> bool {
    let selected = quota
        .scope_selector
        .as_ref()
        .and_then(|selector| selector.match_expressions.as_ref());
    quota
        .scopes
        .as_ref()
        .is_some_and(|scopes| !scopes.is_empty())
        || selected.is_some_and(|expressions| !expressions.is_empty())
}

/// Does the quota count this pod? One without scopes counts all.
pub fn counts_pod(quota: &ResourceQuotaSpec, pod: &PodSpec) -> bool {
    let selected = quota
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    quota
        .scopes
        .iter()
        .flatten()
        .all(|scope| is_in_scope(scope, pod))
        && selected
            .into_iter()
            .all(|expression| matches_expression(expression, pod))
}

fn is_in_scope(scope: &str, pod: &PodSpec) -> bool {
    let is_terminating = pod
        .active_deadline_seconds
        .is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => is_terminating,
        "NotTerminating" => !is_terminating,
        "BestEffort" => qos_class(pod) == QosClass::BestEffort,
        "NotBestEffort" => qos_class(pod) != QosClass::BestEffort,
        "PriorityClass" => pod
            .priority_class_name
            .as_ref()
            .is_some_and(|name| !name.is_empty()),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn matches_expression(expression: &ScopedResourceSelectorRequirement, pod: &PodSpec) -> bool {
    let values = expression.values.as_deref().unwrap_or_default();
    let class = pod.priority_class_name.clone().unwrap_or_default();
    match (expression.scope_name.as_str(), expression.operator.as_str()) {
        ("PriorityClass", "In") => values.contains(&class),
        ("PriorityClass", "NotIn") => !values.contains(&class),
        ("PriorityClass", "DoesNotExist") => class.is_empty(),
        (scope, _) => is_in_scope(scope, pod),
    }
}

fn crosses_namespaces(pod: &PodSpec) -> bool {
    let Some(affinity) = &pod.affinity else {
        return false;
    };
    let value = serde_json::json!([affinity.pod_affinity, affinity.pod_anti_affinity]);
    names_namespaces(&value)
}

fn names_namespaces(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(fields) => {
            let is_named = fields
                .get("namespaces")
                .and_then(|names| names.as_array())
                .is_some_and(|names| !names.is_empty());
            is_named
                || fields
                    .get("namespaceSelector")
                    .is_some_and(serde_json::Value::is_object)
                || fields.values().any(names_namespaces)
        }
        serde_json::Value::Array(items) => items.iter().any(names_namespaces),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_uses_what_it_asks_for_until_it_has_ended() {
        let mut pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "500m", "example.com/dongle": "2"}, "limits": {"cpu": "1", "example.com/dongle": "2"}}}]}}))
        .expect("a pod");
        let usage = pod_usage(&pod, Timestamp::UNIX_EPOCH);
        let amount = |name: &str| usage[name].to_string();
        assert_eq!(
            (amount("cpu"), amount("requests.cpu"), amount("limits.cpu")),
            ("500m".into(), "500m".into(), "1".into())
        );
        assert_eq!(
            (amount("pods"), amount("requests.example.com/dongle")),
            ("1".into(), "2".into())
        );
        pod.status = serde_json::from_value(json!({"phase": "Succeeded"})).expect("a status");
        assert_eq!(pod_usage(&pod, Timestamp::UNIX_EPOCH).len(), 1);
    }

    #[test]
    fn scopes_choose_pods() {
        let quota = |scope: &str| ResourceQuotaSpec {
            scopes: Some(vec![scope.into()]),
            ..ResourceQuotaSpec::default()
        };
        let pod = PodSpec {
            active_deadline_seconds: Some(5),
            ..PodSpec::default()
        };
        assert!(
            counts_pod(&quota("Terminating"), &pod) && !counts_pod(&quota("NotTerminating"), &pod)
        );
        assert!(
            counts_pod(&quota("BestEffort"), &pod)
                && counts_pod(&ResourceQuotaSpec::default(), &pod)
        );
    }
}
