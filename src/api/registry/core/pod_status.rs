//! What a write to a pod's status may say.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_subdomain_error};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

use super::pod_update::annotations;
use crate::validation::numbers::unix_id;
use crate::validation::{addresses, changes, found, names, text};

pub(super) fn validate_status_update(pod: &Pod, old: &Pod) -> FieldErrors {
    let empty = PodStatus::default();
    let no_spec = PodSpec::default();
    let (status, before) = (
        pod.status.as_ref().unwrap_or(&empty),
        old.status.as_ref().unwrap_or(&empty),
    );
    let spec = old.spec.as_ref().unwrap_or(&no_spec);
    let own = FieldPath::new("status");
    found(|errors| {
        annotations(errors, pod, old);
        conditions(errors, status, &own.child("conditions"));
        nominated_node(
            errors,
            status,
            before,
            spec,
            &own.child("nominatedNodeName"),
        );
        if let Some(generation) = status
            .observed_generation
            .filter(|generation| *generation < 0)
        {
            let why = "must be a non-negative integer";
            errors.push(FieldError::invalid(
                &own.child("observedGeneration"),
                generation,
                why,
            ));
        }
        if text(&status.qos_class) != text(&before.qos_class) {
            errors.push(FieldError::invalid(
                &own.child("qosClass"),
                text(&status.qos_class),
                changes::IS_IMMUTABLE,
            ));
        }
        transitions(errors, status, before, spec, &own);
        claims(errors, status, spec, &own.child("resourceClaimStatuses"));
        pod_addresses(errors, status, before, &own);
        let is_windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
        for (list, field) in lists(status) {
            users(errors, list, is_windows, &own.child(field));
        }
    })
}

/// The three lists of container statuses with their fields.
fn lists(status: &PodStatus) -> [(&[ContainerStatus], &'static str); 3] {
    [
        (
            status.container_statuses.as_deref().unwrap_or_default(),
            "containerStatuses",
        ),
        (
            status
                .init_container_statuses
                .as_deref()
                .unwrap_or_default(),
            "initContainerStatuses",
        ),
        (
            status
                .ephemeral_container_statuses
                .as_deref()
                .unwrap_or_default(),
            "ephemeralContainerStatuses",
        ),
    ]
}

fn conditions(errors: &mut FieldErrors, status: &PodStatus, path: &FieldPath) {
    for (index, condition) in status.conditions.iter().flatten().enumerate() {
        let path = path.index(index);
        if let Some(generation) = condition
            .observed_generation
            .filter(|generation| *generation < 0)
        {
            let why = "must be a non-negative integer";
            errors.push(FieldError::invalid(
                &path.child("observedGeneration"),
                generation,
                why,
            ));
        }
        if !matches!(
            condition.type_.as_str(),
            "PodScheduled" | "Ready" | "Initialized"
        ) {
            names::qualified_name(errors, &condition.type_, &path.child("Type"));
        }
    }
}

fn nominated_node(
    errors: &mut FieldErrors,
    status: &PodStatus,
    old: &PodStatus,
    spec: &PodSpec,
    path: &FieldPath,
) {
    let name = text(&status.nominated_node_name);
    if name.is_empty() || name == text(&old.nominated_node_name) {
        return;
    }
    errors.extend(dns1123_subdomain_error(name).map(|why| FieldError::invalid(path, name, why)));
    if !text(&spec.node_name).is_empty() {
        errors.push(FieldError::forbidden(
            path,
            "may not be set on pods that are already bound to a node",
        ));
    }
}

/// A container that has ended and is not to be restarted has ended for good.
fn transitions(
    errors: &mut FieldErrors,
    status: &PodStatus,
    old: &PodStatus,
    spec: &PodSpec,
    path: &FieldPath,
) {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let all_may_restart = spec.containers.iter().chain(init).any(|container| {
        container
            .restart_policy_rules
            .iter()
            .flatten()
            .any(|rule| rule.action == "RestartAllContainers")
    });
    for (index, (before, field)) in lists(old).into_iter().enumerate() {
        let (new, _) = lists(status)[index];
        let containers: &[Container] = match field {
            "containerStatuses" => &spec.containers,
            "initContainerStatuses" => init,
            _ => &[],
        };
        if all_may_restart && field != "ephemeralContainerStatuses" {
            continue;
        }
        for (index, old) in before.iter().enumerate() {
            let Some(ended) = old
                .state
                .as_ref()
                .and_then(|state| state.terminated.as_ref())
            else {
                continue;
            };
            let lives = new.iter().any(|new| {
                new.name == old.name
                    && new
                        .state
                        .as_ref()
                        .is_none_or(|state| state.terminated.is_none())
            });
            let container = containers
                .iter()
                .find(|container| container.name == old.name);
            if lives
                && !container.is_some_and(|container| restarts(container, spec, ended.exit_code))
            {
                let why = "may not be transitioned to non-terminated state";
                errors.push(FieldError::forbidden(
                    &path.child(field).index(index).child("state"),
                    why,
                ));
            }
        }
    }
}

/// Whether a container that ended so is started again: by its rules, its own policy, or the pod's.
fn restarts(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else {
            continue;
        };
        let listed = codes
            .values
            .as_ref()
            .is_some_and(|values| values.contains(&exit_code));
        if listed == (codes.operator == "In") && rule.action == "Restart" {
            return true;
        }
    }
    match container
        .restart_policy
        .as_deref()
        .unwrap_or(text(&spec.restart_policy))
    {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

fn claims(errors: &mut FieldErrors, status: &PodStatus, spec: &PodSpec, path: &FieldPath) {
    let mut seen = BTreeSet::new();
    for (index, claim) in status.resource_claim_statuses.iter().flatten().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if !spec
            .resource_claims
            .iter()
            .flatten()
            .any(|known| known.name == name)
        {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&path.child("name"), name, why));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if let Some(claim) = &claim.resource_claim_name {
            names::dns_subdomain(errors, claim, &path.child("resourceClaimName"));
        }
    }
}

fn pod_addresses(errors: &mut FieldErrors, status: &PodStatus, old: &PodStatus, path: &FieldPath) {
    let pod_ips = |status: &PodStatus| -> Vec<String> {
        status
            .pod_ips
            .iter()
            .flatten()
            .map(|address| address.ip.clone())
            .collect()
    };
    families(
        errors,
        &pod_ips(status),
        &pod_ips(old),
        &path.child("podIPs"),
    );
    let host_ips = |status: &PodStatus| -> Vec<String> {
        status
            .host_ips
            .iter()
            .flatten()
            .map(|address| address.ip.clone())
            .collect()
    };
    let hosts = host_ips(status);
    if let Some(first) = hosts.first() {
        if text(&status.host_ip) != first {
            let path = path.child("hostIPs").index(0).child("ip");
            errors.push(FieldError::invalid(
                &path,
                first.as_str(),
                "must be equal to `hostIP`",
            ));
        }
        families(errors, &hosts, &host_ips(old), &path.child("hostIPs"));
    }
}

/// At most one address of each family.
fn families(errors: &mut FieldErrors, all: &[String], known: &[String], path: &FieldPath) {
    for (index, address) in all.iter().enumerate() {
        addresses::legacy_ip(errors, address, &path.index(index), known);
    }
    if all.len() > 2
        || (all.len() == 2 && !addresses::is_dual_stack(all.iter().map(String::as_str)))
    {
        let shown: Vec<serde_json::Value> =
            all.iter().map(|ip| serde_json::json!({"IP": ip})).collect();
        errors.push(FieldError::invalid(
            path,
            shown,
            "may specify no more than one IP for each IP family",
        ));
    }
}

fn users(
    errors: &mut FieldErrors,
    statuses: &[ContainerStatus],
    is_windows: bool,
    path: &FieldPath,
) {
    for (index, status) in statuses.iter().enumerate() {
        let Some(user) = status.user.as_ref().and_then(|user| user.linux.as_ref()) else {
            continue;
        };
        let path = path.index(index).child("user").child("linux");
        if is_windows {
            errors.push(FieldError::forbidden(
                &path,
                "cannot be set for a windows pod",
            ));
            continue;
        }
        unix_id(errors, Some(user.uid), &path.child("uid"));
        unix_id(errors, Some(user.gid), &path.child("gid"));
        for (index, group) in user.supplemental_groups.iter().flatten().enumerate() {
            unix_id(
                errors,
                Some(*group),
                &path.child("supplementalGroups").index(index),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_ended_for_good_does_not_run_again() {
        let pod = |state: serde_json::Value, policy: &str| -> Pod {
            serde_json::from_value(json!({
                "spec": {"restartPolicy": policy, "containers": [{"name": "a"}]},
                "status": {"containerStatuses": [{"name": "a", "state": state}]}}))
            .expect("a pod")
        };
        let ended = json!({"terminated": {"exitCode": 1}});
        let errors = |policy: &str| {
            validate_status_update(
                &pod(json!({"running": {}}), policy),
                &pod(ended.clone(), policy),
            )
            .len()
        };
        assert_eq!(
            (errors("Always"), errors("OnFailure"), errors("Never")),
            (0, 0, 1)
        );
    }
}
