//! What a pod asks for and may use in total: the sums that scheduler, kubelet and quota must agree on (KEP-753, KEP-2837).

use std::collections::BTreeMap;

use apimachinery::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Resources that pod-level `spec.resources` may set, huge pages apart.
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];

/// Parses a resource list of an object; amounts that do not parse are left out (validation refuses them on the way in).
pub fn amounts(list: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
    list.into_iter()
        .flatten()
        .filter_map(|(name, quantity)| Some((name.clone(), Quantity::parse(&quantity.0).ok()?)))
        .collect()
}

/// What a container asks for.
pub fn container_requests(container: &Container) -> Amounts {
    amounts(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

/// What a container may use at most.
pub fn container_limits(container: &Container) -> Amounts {
    amounts(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref()),
    )
}

/// An init container that keeps running beside the others (`restartPolicy: Always`).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What a pod asks for: the larger of running and initialising, sidecars counted in both, plus overhead.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    let mut total = pod_total(spec, container_requests);
    set_pod_level(
        &mut total,
        amounts(
            spec.resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref()),
        ),
    );
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// What a pod may use at most, of resources that some container limits. Overhead is added only where there is a limit.
pub fn pod_limits(spec: &PodSpec) -> Amounts {
    let mut total = pod_total(spec, container_limits);
    set_pod_level(
        &mut total,
        amounts(
            spec.resources
                .as_ref()
                .and_then(|resources| resources.limits.as_ref()),
        ),
    );
    for (name, overhead) in amounts(spec.overhead.as_ref()) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit = limit.saturating_add(overhead);
        }
    }
    total
}

/// Whether the pod itself, not only its containers, names resources.
pub fn has_pod_level_resources(resources: Option<&ResourceRequirements>) -> bool {
    resources.is_some_and(|resources| {
        let named = |list: &Option<BTreeMap<String, ApiQuantity>>| {
            list.as_ref().is_some_and(|list| !list.is_empty())
        };
        named(&resources.requests) || named(&resources.limits)
    })
}

/// Adds `more` to `total`, name by name.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        let sum = total
            .get(name)
            .map_or(*quantity, |old| old.saturating_add(*quantity));
        total.insert(name.clone(), sum);
    }
}

fn pod_total(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut initialising = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if is_sidecar(container) {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            raise(&mut initialising, &sidecars);
        } else {
            let mut beside_sidecars = own;
            add(&mut beside_sidecars, &sidecars);
            raise(&mut initialising, &beside_sidecars);
        }
    }
    raise(&mut running, &initialising);
    running
}

fn raise(total: &mut Amounts, floor: &Amounts) {
    for (name, quantity) in floor {
        if total.get(name).is_none_or(|old| old < quantity) {
            total.insert(name.clone(), *quantity);
        }
    }
}

fn set_pod_level(total: &mut Amounts, pod_level: Amounts) {
    total.extend(
        pod_level.into_iter().filter(|(name, _)| {
            POD_LEVEL.contains(&name.as_str()) || name.starts_with("hugepages-")
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).expect("a pod spec")
    }

    #[test]
    fn a_pod_asks_for_the_larger_of_running_and_initialising_with_sidecars_in_both() {
        let spec = spec(json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "2"}}}
            ],
            "overhead": {"cpu": "100m"}
        }));
        assert_eq!(pod_requests(&spec)["cpu"].millis(), 2600);
    }

    #[test]
    fn pod_level_resources_replace_the_sum_of_the_containers() {
        let spec = spec(json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
            "resources": {"requests": {"cpu": "3"}}
        }));
        assert_eq!(pod_requests(&spec)["cpu"].millis(), 3000);
    }
}
