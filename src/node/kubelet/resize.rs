//! Whether a change of resources in place fits this node (KEP-1287).

use k8s_openapi::api::core::v1::Pod;
use semantics::resources::{Amounts, pod_requests};

use crate::container::resources::container_resize;
use crate::pods::facts::{containers, init_containers, spec};
use crate::services::Services;
use crate::status::ResizeState;
use crate::worker::Observed;

/// How far the pod's wanted resources are from those in force.
pub(crate) fn judge(pod: &Pod, observed: &Observed, services: &Services) -> ResizeState {
    let changes = containers(pod)
        .iter()
        .chain(init_containers(pod))
        .any(|container| {
            let running = observed
                .running()
                .find(|status| status.name == container.name);
            running.is_some_and(|status| container_resize(pod, container, status).is_some())
        });
    if !changes {
        return ResizeState::None;
    }
    let wanted = pod_requests(spec(pod));
    if let Some((name, asked, has)) = excess(&wanted, &services.node.allocatable) {
        return ResizeState::Infeasible(format!(
            "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {has}"
        ));
    }
    let free = services
        .pods_table
        .free_for(crate::pods::facts::uid(pod), &services.node.allocatable);
    match excess(&wanted, &free) {
        Some((name, asked, has)) => ResizeState::Deferred(format!(
            "Node didn't have enough resource: {name}, requested: {asked}, used: {has}"
        )),
        None => ResizeState::InProgress,
    }
}

/// The first of cpu and memory that is not enough: thousandths of cores, or bytes.
fn excess(wanted: &Amounts, has: &Amounts) -> Option<(&'static str, i64, i64)> {
    ["cpu", "memory"].into_iter().find_map(|name| {
        let of = |amounts: &Amounts| {
            amounts.get(name).map_or(0, |amount| {
                if name == "cpu" {
                    amount.millis()
                } else {
                    amount.units()
                }
            })
        };
        (of(wanted) > of(has)).then(|| (name, of(wanted), of(has)))
    })
}
