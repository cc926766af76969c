//! The quality of service of a pod, derived from its requests and limits of cpu and memory.

use std::collections::BTreeMap;

use apimachinery::Quantity;
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use crate::resources::{Amounts, add, amounts, has_pod_level_resources};

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Guaranteed: every container limits cpu and memory and asks for just that. BestEffort: nobody names either. Else Burstable.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let pod_level = spec
        .resources
        .as_ref()
        .filter(|resources| has_pod_level_resources(Some(resources)));
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let all: Vec<Option<&ResourceRequirements>> = match pod_level {
        Some(resources) => vec![Some(resources)],
        None => containers
            .map(|container| container.resources.as_ref())
            .collect(),
    };
    let mut requests = Amounts::new();
    let mut limits = Amounts::new();
    let mut everybody_limits = true;
    for resources in all {
        let own_limits = compute(amounts(
            resources.and_then(|resources| resources.limits.as_ref()),
        ));
        everybody_limits &= own_limits.len() == COMPUTE.len();
        add(
            &mut requests,
            &compute(amounts(
                resources.and_then(|resources| resources.requests.as_ref()),
            )),
        );
        add(&mut limits, &own_limits);
    }
    if requests.is_empty() && limits.is_empty() {
        return QosClass::BestEffort;
    }
    if everybody_limits && equal(&requests, &limits) {
        return QosClass::Guaranteed;
    }
    QosClass::Burstable
}

fn compute(amounts: Amounts) -> Amounts {
    amounts
        .into_iter()
        .filter(|(name, amount)| COMPUTE.contains(&name.as_str()) && !amount.is_zero())
        .collect()
}

fn equal(requests: &BTreeMap<String, Quantity>, limits: &BTreeMap<String, Quantity>) -> bool {
    requests.len() == limits.len()
        && requests
            .iter()
            .all(|(name, amount)| limits.get(name) == Some(amount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(resources: serde_json::Value) -> QosClass {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        qos_class(&serde_json::from_value(spec).expect("a pod spec"))
    }

    #[test]
    fn equal_requests_and_limits_of_cpu_and_memory_are_guaranteed() {
        assert_eq!(
            class(
                json!({"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1024Mi"}})
            ),
            QosClass::Guaranteed
        );
    }

    #[test]
    fn a_missing_limit_makes_it_burstable_and_nothing_named_best_effort() {
        assert_eq!(
            class(json!({"requests": {"cpu": "1"}})),
            QosClass::Burstable
        );
        assert_eq!(class(json!({})), QosClass::BestEffort);
    }
}
