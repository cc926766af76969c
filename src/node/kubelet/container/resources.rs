//! Requests and limits as cgroup settings, for containers and for the whole pod, and changes of them in place (KEP-1287).

use apimachinery::Quantity;
use cri::{ContainerId, ContainerStatus, HugepageLimit, LinuxResources};
use k8s_openapi::api::core::v1::{Container, Pod};
use semantics::qos::{QosClass, qos_class};
use semantics::resources::{
    Amounts, amounts, container_limits, container_requests, has_pod_level_resources, is_sidecar,
    pod_limits, pod_requests,
};

use crate::pods::facts::{containers, init_containers, is_critical, spec};

/// Microseconds.
const CPU_PERIOD: u64 = 100_000;
/// The kernel refuses less: microseconds.
const CPU_QUOTA_MIN: i64 = 1_000;
const CPU_SHARES_MIN: u64 = 2;
const CPU_SHARES_MAX: u64 = 262_144;
const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1000;

/// A running container whose limits change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    /// The settings from now on, whole.
    pub(crate) resources: LinuxResources,
    /// Its resize policy asks for a restart.
    pub(crate) restarts: bool,
}

pub(crate) fn qos(pod: &Pod) -> QosClass {
    qos_class(spec(pod))
}

pub(crate) fn cri_qos(pod: &Pod) -> cri::QosClass {
    match qos(pod) {
        QosClass::Guaranteed => cri::QosClass::Guaranteed,
        QosClass::Burstable => cri::QosClass::Burstable,
        QosClass::BestEffort => cri::QosClass::BestEffort,
    }
}

/// Settings of a container's cgroup. `memory_capacity`: bytes of the node.
pub(crate) fn container_resources(
    pod: &Pod,
    container: &Container,
    memory_capacity: i64,
) -> LinuxResources {
    let requests = container_requests(container);
    let limits = limits_with_pod(pod, container);
    let limit = |name: &str| limits.get(name).copied().unwrap_or(Quantity::ZERO);
    let cpu_request = requests.get("cpu").copied().unwrap_or_else(|| limit("cpu"));
    let memory = Some(limit("memory").units()).filter(|bytes| *bytes > 0);
    LinuxResources {
        cpu_period: Some(CPU_PERIOD),
        cpu_quota: Some(cpu_quota(limit("cpu"))),
        cpu_shares: Some(cpu_shares(cpu_request)),
        memory_limit: memory,
        // Equal to the memory limit: no swap.
        memory_swap_limit: memory,
        oom_score_adj: Some(oom_score_adj(pod, container, memory_capacity)),
        hugepage_limits: hugepages(&limits),
        ..LinuxResources::default()
    }
}

/// Settings of the pod's cgroup: limited only where every container is.
pub(crate) fn pod_resources(pod: &Pod, pids_max: Option<i64>) -> LinuxResources {
    let requests = pod_requests(spec(pod));
    let limits = pod_limits(spec(pod));
    let limited = |name: &str| -> Option<Quantity> {
        let limit = limits.get(name).copied().filter(|limit| !limit.is_zero())?;
        let everybody = containers(pod)
            .iter()
            .chain(init_containers(pod))
            .all(|container| {
                container_limits(container)
                    .get(name)
                    .is_some_and(|limit| !limit.is_zero())
            });
        (everybody || pod_level_limit(pod, name).is_some()).then_some(limit)
    };
    let cpu_request = requests.get("cpu").copied().unwrap_or(Quantity::ZERO);
    let best_effort = qos(pod) == QosClass::BestEffort;
    LinuxResources {
        cpu_period: Some(CPU_PERIOD),
        cpu_quota: limited("cpu").map(cpu_quota),
        cpu_shares: Some(if best_effort {
            CPU_SHARES_MIN
        } else {
            cpu_shares(cpu_request)
        }),
        memory_limit: limited("memory").map(Quantity::units),
        pids_limit: pids_max,
        hugepage_limits: hugepages(&limits),
        ..LinuxResources::default()
    }
}

/// The change that brings a running container to its spec; `None` when there is none.
pub(crate) fn container_resize(
    pod: &Pod,
    container: &Container,
    status: &ContainerStatus,
) -> Option<Resize> {
    let wanted = container_resources(pod, container, i64::MAX);
    let has = &status.resources;
    // A runtime that does not tell shares tells nothing.
    has.cpu_shares?;
    let cpu = wanted.cpu_shares != has.cpu_shares
        || unlimited(wanted.cpu_quota) != unlimited(has.cpu_quota);
    let memory = wanted.memory_limit != has.memory_limit;
    if !cpu && !memory {
        return None;
    }
    let restarts_for = |resource: &str| {
        let policies = container.resize_policy.iter().flatten();
        policies.into_iter().any(|policy| {
            policy.resource_name == resource && policy.restart_policy == "RestartContainer"
        })
    };
    let restarts = (cpu && restarts_for("cpu")) || (memory && restarts_for("memory"));
    let resources = LinuxResources {
        oom_score_adj: has.oom_score_adj,
        hugepage_limits: has.hugepage_limits.clone(),
        ..wanted
    };
    Some(Resize {
        id: status.id.clone(),
        name: container.name.clone(),
        resources,
        restarts,
    })
}

fn unlimited(quota: Option<i64>) -> Option<i64> {
    quota.filter(|quota| *quota > 0)
}

fn pod_level_limit(pod: &Pod, name: &str) -> Option<Quantity> {
    let resources = spec(pod)
        .resources
        .as_ref()
        .filter(|resources| has_pod_level_resources(Some(resources)))?;
    amounts(resources.limits.as_ref()).get(name).copied()
}

/// A container without a limit of its own is bound by the pod's.
fn limits_with_pod(pod: &Pod, container: &Container) -> Amounts {
    let mut limits = container_limits(container);
    for name in ["cpu", "memory"] {
        if let Some(limit) = pod_level_limit(pod, name) {
            limits.entry(name.to_owned()).or_insert(limit);
        }
    }
    limits
}

fn cpu_shares(request: Quantity) -> u64 {
    let millis = u64::try_from(request.millis()).unwrap_or(0);
    (millis * 1024 / 1000).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX)
}

fn cpu_quota(limit: Quantity) -> i64 {
    if limit.is_zero() {
        return -1;
    }
    let period = i64::try_from(CPU_PERIOD).expect("the period is small");
    (limit.millis().saturating_mul(period) / 1000).max(CPU_QUOTA_MIN)
}

fn hugepages(limits: &Amounts) -> Vec<HugepageLimit> {
    limits
        .iter()
        .filter_map(|(name, limit)| {
            let size = Quantity::parse(name.strip_prefix("hugepages-")?)
                .ok()?
                .units();
            Some(HugepageLimit {
                page_size: page_size(size),
                limit_bytes: u64::try_from(limit.units()).unwrap_or(0),
            })
        })
        .collect()
}

/// `2MB`, `1GB`: as in the controller's file names.
fn page_size(bytes: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    let unit = UNITS
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes % unit == 0);
    unit.map_or_else(
        || format!("{bytes}B"),
        |(name, unit)| format!("{}{name}", bytes / unit),
    )
}

/// The less of its memory request a burstable container may exceed before others, the higher the score.
fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    let score = match qos(pod) {
        _ if is_critical(pod) => OOM_GUARANTEED,
        QosClass::Guaranteed => OOM_GUARANTEED,
        QosClass::BestEffort => OOM_BEST_EFFORT,
        QosClass::Burstable => burstable_score(pod, container, memory_capacity.max(1)),
    };
    i32::try_from(score).expect("scores are between -1000 and 1000")
}

fn burstable_score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    let request_of = |container: &Container| {
        container_requests(container)
            .get("memory")
            .map_or(0, |bytes| bytes.units())
    };
    let share = |bytes: i64| {
        let thousandths = i128::from(bytes) * 1000 / i128::from(memory_capacity);
        1000 - i64::try_from(thousandths).unwrap_or(1000)
    };
    let extra = extra_of_pod(pod, request_of);
    let mut score = share(request_of(container).saturating_add(extra));
    let is_init = init_containers(pod)
        .iter()
        .any(|init| init.name == container.name);
    if is_init && is_sidecar(container) {
        let least = containers(pod).iter().map(request_of).min().unwrap_or(0);
        score = score.min(share(least.saturating_add(extra)));
    }
    score.clamp(1000 + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
}

/// What the pod asks for beyond its containers, in equal parts: bytes for each.
fn extra_of_pod(pod: &Pod, request_of: impl Fn(&Container) -> i64) -> i64 {
    let own = spec(pod)
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let Some(total) = amounts(own).get("memory").map(|bytes| bytes.units()) else {
        return 0;
    };
    let all = containers(pod)
        .iter()
        .chain(init_containers(pod).iter().filter(|init| is_sidecar(init)));
    let (sum, count) = all.fold((0_i64, 0_i64), |(sum, count), container| {
        (sum + request_of(container), count + 1)
    });
    (total - sum).max(0) / count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn requests_become_shares_and_limits_quota_and_memory() {
        let pod = pod(
            json!([{"name": "a", "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "64Mi"}}}]),
        );
        let made = container_resources(&pod, &containers(&pod)[0], 1 << 30);
        assert_eq!(
            (made.cpu_shares, made.cpu_quota, made.memory_limit),
            (Some(512), Some(100_000), Some(64 << 20))
        );
    }

    #[test]
    fn a_pod_is_limited_only_where_every_container_is() {
        let limited = json!({"name": "a", "resources": {"limits": {"memory": "64Mi"}}});
        let all = pod(json!([limited, {"name": "b", "resources": {"limits": {"memory": "64Mi"}}}]));
        assert_eq!(pod_resources(&all, None).memory_limit, Some(128 << 20));
        let some = pod(json!([limited, {"name": "b"}]));
        assert_eq!(pod_resources(&some, None).memory_limit, None);
    }

    #[test]
    fn burstable_containers_score_by_their_share_of_the_nodes_memory() {
        let pod = pod(json!([{"name": "a", "resources": {"requests": {"memory": "100Mi"}}}]));
        let made = container_resources(&pod, &containers(&pod)[0], 1000 << 20);
        assert_eq!(made.oom_score_adj, Some(900));
    }
}
