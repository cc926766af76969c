//! Which pod goes first when the node is short of something.

use std::fmt::Write;

use k8s_openapi::api::core::v1::Pod;
use semantics::resources::{container_requests, pod_requests};

use crate::node::Pressure;
use crate::pods::facts::{containers, init_containers, is_critical, spec, uid};

/// What a pod uses: bytes, or a count of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodUsage {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) processes: u64,
    /// Memory and disk of each container.
    pub(crate) containers: Vec<(String, u64, u64)>,
}

/// The pods in the order they are evicted in; critical ones are never among them.
pub(crate) fn rank(pressure: Pressure, pods: &[(Pod, PodUsage)]) -> Vec<&(Pod, PodUsage)> {
    let mut ranked: Vec<&(Pod, PodUsage)> =
        pods.iter().filter(|(pod, _)| !is_critical(pod)).collect();
    ranked.sort_by(|left, right| key(pressure, left).cmp(&key(pressure, right)));
    ranked
}

/// Smaller goes first: over its request, then of low priority, then by how far it is over.
fn key(pressure: Pressure, (pod, usage): &(Pod, PodUsage)) -> (bool, i32, i128, &str) {
    let priority = spec(pod).priority.unwrap_or(0);
    let over = excess(pressure, pod, usage);
    match pressure {
        Pressure::Memory | Pressure::Disk => (over <= 0, priority, -over, uid(pod)),
        Pressure::Pid => (false, priority, -over, uid(pod)),
    }
}

/// How much more than its request the pod uses.
fn excess(pressure: Pressure, pod: &Pod, usage: &PodUsage) -> i128 {
    let request = |name: &str| {
        pod_requests(spec(pod))
            .get(name)
            .map_or(0, |amount| i128::from(amount.units()))
    };
    match pressure {
        Pressure::Memory => i128::from(usage.memory) - request("memory"),
        Pressure::Disk => i128::from(usage.disk) - request("ephemeral-storage"),
        Pressure::Pid => i128::from(usage.processes),
    }
}

/// The sentences about containers that used more than they asked for.
pub(crate) fn explain(pressure: Pressure, pod: &Pod, usage: &PodUsage) -> String {
    let resource = match pressure {
        Pressure::Memory => "memory",
        Pressure::Disk => "ephemeral-storage",
        Pressure::Pid => return String::new(),
    };
    let mut text = String::new();
    for (name, memory, disk) in &usage.containers {
        let used = if pressure == Pressure::Memory {
            *memory
        } else {
            *disk
        };
        let spec = containers(pod)
            .iter()
            .chain(init_containers(pod))
            .find(|container| container.name == *name);
        let request = spec
            .and_then(|container| container_requests(container).get(resource).copied())
            .unwrap_or(apimachinery::Quantity::ZERO);
        if i128::from(used) > i128::from(request.units()) {
            let used = apimachinery::Quantity::from_bytes(
                i64::try_from(used / 1024 * 1024).unwrap_or(i64::MAX),
            );
            // Writing to a String cannot fail.
            let _written = write!(
                text,
                "Container {name} was using {used}, request is {request}, has larger consumption of {resource}. "
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, priority: i32, request: &str, used: u64) -> (Pod, PodUsage) {
        let pod = json!({"metadata": {"uid": name}, "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"memory": request}}}]}});
        (
            serde_json::from_value(pod).unwrap(),
            PodUsage {
                memory: used,
                containers: vec![("c".into(), used, 0)],
                ..PodUsage::default()
            },
        )
    }

    #[test]
    fn who_is_over_its_request_goes_first_then_low_priority_then_the_largest_excess() {
        let pods = [
            pod("within", 0, "100", 50),
            pod("over-high", 10, "100", 500),
            pod("over-little", 0, "100", 150),
            pod("over-much", 0, "100", 300),
            pod("critical", 2_000_000_000, "0", 900),
        ];
        let order: Vec<&str> = rank(Pressure::Memory, &pods)
            .iter()
            .map(|(pod, _)| uid(pod))
            .collect();
        assert_eq!(order, ["over-much", "over-little", "over-high", "within"]);
    }

    #[test]
    fn the_message_names_who_used_more_than_it_asked_for() {
        let (pod, usage) = pod("a", 0, "1Mi", 2 << 20);
        assert_eq!(
            explain(Pressure::Memory, &pod, &usage),
            "Container c was using 2Mi, request is 1Mi, has larger consumption of memory. "
        );
    }
}
