//! Resource quotas: what a write would use is charged in the transaction that writes the object, or the write is refused.
//!
//! The controller counts what is there and releases what is gone; here only more is charged.

use apimachinery::{ApiError, Object, ObjectKey, Quantity, StoredObject};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec, ResourceQuota, Service};
use kv::{Compare, Operation};
use semantics::quota::{claim_usage, count_name, counts_pod, is_scoped, pod_usage, service_usage};
use semantics::resources::{Amounts, amounts, container_limits, container_requests};
use serde::de::DeserializeOwned;
use serde_json::json;
use storage::{Alongside, ListOptions};

use crate::call::{Call, Run};
use crate::catalog::Served;

/// Core resources that are also counted under their bare name.
const BARE: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];
/// What every container must say when a quota limits it.
const COMPUTE: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// One quota with what it says and where it stands.
struct Standing {
    stored: StoredObject,
    quota: ResourceQuota,
}

/// The charges that writing `new` (over `old`) takes; none for a dry run, which is only judged.
pub(crate) async fn charge(
    call: &Call<'_>,
    new: &Object,
    old: Option<&Object>,
    run: Run,
) -> Result<Alongside, ApiError> {
    let mut alongside = Alongside::default();
    let description = &call.served.description;
    if !description.is_namespaced() || !can_use_more(call, new, old) {
        return Ok(alongside);
    }
    let catalog = call.state.catalog.load_full();
    let Some(quotas) = catalog.find("", "v1", "resourcequotas") else {
        return Ok(alongside);
    };
    let options = ListOptions {
        namespace: Some(new.namespace().to_owned()),
        ..ListOptions::default()
    };
    let list = call.state.store.list(&quotas.collection, &options).await?;
    for stored in list.items {
        let quota = stored.decode().map_err(ApiError::internal)?;
        let standing = Standing { stored, quota };
        let Some(used) = judge(call, &standing, new, old)? else {
            continue;
        };
        if !run.is_dry() {
            write(call, quotas, &standing, &used, &mut alongside)?;
        }
    }
    Ok(alongside)
}

/// New objects use something; few changes make them use more.
fn can_use_more(call: &Call<'_>, new: &Object, old: Option<&Object>) -> bool {
    let Some(old) = old else {
        return call.path.subresource.is_empty();
    };
    let description = &call.served.description;
    let is_core = description.kind.group.is_empty();
    match (description.plural.as_ref(), call.path.subresource.as_str()) {
        ("services" | "persistentvolumeclaims", "") | ("pods", "resize") => is_core,
        // A deadline moves a pod from one scope to another.
        ("pods", "") => is_core && has_deadline(new) != has_deadline(old),
        _ => false,
    }
}

fn has_deadline(pod: &Object) -> bool {
    pod.at(&["spec", "activeDeadlineSeconds"])
        .is_some_and(|seconds| !seconds.is_null())
}

// tidy: allow(function-length): one pass over the quotas whose steps share what was found
/// What the quota's use becomes; `None` where the write is none of its business.
fn judge(
    call: &Call<'_>,
    standing: &Standing,
    new: &Object,
    old: Option<&Object>,
) -> Result<Option<Amounts>, ApiError> {
    let spec = standing.quota.spec.clone().unwrap_or_default();
    let status = standing.quota.status.clone().unwrap_or_default();
    let name = standing.quota.metadata.name.as_deref().unwrap_or_default();
    let hard = amounts(status.hard.as_ref());
    let pod: Option<Pod> = is_pod(call).then(|| typed(new)).flatten();
    match pod.as_ref().and_then(|pod| pod.spec.as_ref()) {
        Some(pod) if !counts_pod(&spec, pod) => return Ok(None),
        None if is_scoped(&spec) => return Ok(None),
        _ => {}
    }
    let mut delta = usage(call, new);
    // What the quota did not count before, it counts as a whole.
    let counted = |old: &Object| {
        let pod: Option<Pod> = pod.as_ref().and_then(|_| typed(old));
        pod.and_then(|pod| pod.spec)
            .is_none_or(|pod| counts_pod(&spec, &pod))
    };
    if let Some(old) = old.filter(|old| counted(old)) {
        for (resource, before) in usage(call, old) {
            let after = delta.entry(resource).or_insert(Quantity::ZERO);
            *after = after.saturating_sub(before);
        }
    }
    delta.retain(|resource, amount| hard.contains_key(resource) && !amount.is_negative());
    if delta.is_empty() {
        return Ok(None);
    }
    if let Some(pod) = pod.as_ref().and_then(|pod| pod.spec.as_ref())
        && let Some(missing) = missing_compute(pod, &hard)
    {
        return Err(refuse(
            call,
            new,
            &format!("failed quota: {name}: must specify {missing}"),
        ));
    }
    delta.retain(|_, amount| !amount.is_zero());
    if delta.is_empty() {
        return Ok(None);
    }
    let used = amounts(status.used.as_ref());
    let unknown: Vec<&str> = delta
        .keys()
        .filter(|resource| !used.contains_key(*resource))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let why = format!(
            "status unknown for quota: {name}, resources: {}",
            unknown.join(",")
        );
        return Err(refuse(call, new, &why));
    }
    let after: Amounts = delta
        .iter()
        .map(|(resource, more)| (resource.clone(), used[resource].saturating_add(*more)))
        .collect();
    let exceeded: Vec<&String> = after
        .iter()
        .filter(|(resource, amount)| **amount > hard[*resource])
        .map(|(resource, _)| resource)
        .collect();
    if !exceeded.is_empty() {
        let told = |amounts: &Amounts| {
            exceeded
                .iter()
                .map(|resource| format!("{resource}={}", amounts[*resource]))
                .collect::<Vec<_>>()
                .join(",")
        };
        let why = format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            told(&delta),
            told(&used),
            told(&hard)
        );
        return Err(refuse(call, new, &why));
    }
    Ok(Some(after))
}

fn refuse(call: &Call<'_>, object: &Object, why: &str) -> ApiError {
    ApiError::forbidden(
        &call.served.description.group_resource(),
        object.name(),
        why,
    )
}

fn is_pod(call: &Call<'_>) -> bool {
    let kind = &call.served.description.kind;
    kind.kind == "Pod" && kind.group.is_empty()
}

fn typed<T: DeserializeOwned>(object: &Object) -> Option<T> {
    object.to_typed().ok()
}

fn usage(call: &Call<'_>, object: &Object) -> Amounts {
    let description = &call.served.description;
    let (group, plural) = (description.kind.group.as_ref(), description.plural.as_ref());
    let measured = match (group, plural) {
        ("", "pods") => typed::<Pod>(object).map(|pod| pod_usage(&pod, call.state.now())),
        ("", "services") => typed::<Service>(object).map(|service| service_usage(&service)),
        ("", "persistentvolumeclaims") => {
            typed::<PersistentVolumeClaim>(object).map(|claim| claim_usage(&claim))
        }
        _ => None,
    };
    measured.unwrap_or_else(|| {
        let one = Quantity::from_units(1);
        let mut usage = Amounts::from([(count_name(group, plural), one)]);
        if group.is_empty() && BARE.contains(&plural) {
            usage.insert(plural.to_owned(), one);
        }
        usage
    })
}

/// Limited resources that some container says nothing of: `requests.cpu for: a,b; memory for: a`.
fn missing_compute(pod: &PodSpec, hard: &Amounts) -> Option<String> {
    let all = || {
        pod.containers
            .iter()
            .chain(pod.init_containers.iter().flatten())
    };
    let mut missing = Vec::new();
    let mut limited: Vec<&str> = COMPUTE
        .into_iter()
        .filter(|resource| hard.contains_key(*resource))
        .collect();
    limited.sort_unstable();
    for resource in limited {
        let mut silent: Vec<&str> = all()
            .filter(|container| match resource.strip_prefix("limits.") {
                Some(name) => !container_limits(container).contains_key(name),
                None => !container_requests(container)
                    .contains_key(resource.strip_prefix("requests.").unwrap_or(resource)),
            })
            .map(|container| container.name.as_str())
            .collect();
        silent.sort_unstable();
        silent.dedup();
        if !silent.is_empty() {
            missing.push(format!("{resource} for: {}", silent.join(",")));
        }
    }
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// The new status of a quota, in the transaction that it is charged for.
fn write(
    call: &Call<'_>,
    quotas: &Served,
    standing: &Standing,
    used: &Amounts,
    alongside: &mut Alongside,
) -> Result<(), ApiError> {
    let old = quotas.tree(&standing.stored)?;
    let mut new = old.clone();
    for (resource, amount) in used {
        new.set_at(&["status", "used", resource], json!(amount.to_string()));
    }
    let actor = field_manager::Actor {
        manager: "kube-apiserver",
        api_version: "v1",
        subresource: "status",
        now: &call.state.now().to_seconds_string(),
        writable: field_manager::Writable::AllBut(&[&["spec"]]),
    };
    field_manager::track(Some(&old), &mut new, quotas.resource.schema(), &actor);
    new.metadata_mut().remove("resourceVersion");
    let mut tree = new.into_value();
    schema::canonicalise(&mut tree, quotas.resource.schema());
    let key = quotas
        .collection
        .key(&ObjectKey::namespaced(old.namespace(), old.name()));
    alongside.compares.push(Compare::mod_revision_is(
        key.clone(),
        standing.stored.revision,
    ));
    alongside.operations.push(Operation::Put {
        key,
        value: codec::encode_stored(&tree).into(),
        lease: 0,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Container;

    #[test]
    fn a_container_that_says_nothing_of_a_limited_resource_is_named() {
        let container = |name: &str| Container {
            name: name.to_owned(),
            ..Container::default()
        };
        let pod = PodSpec {
            containers: vec![container("b"), container("a")],
            ..PodSpec::default()
        };
        let hard = Amounts::from([
            ("requests.cpu".to_owned(), Quantity::from_units(1)),
            ("pods".to_owned(), Quantity::from_units(1)),
        ]);
        assert_eq!(
            missing_compute(&pod, &hard).as_deref(),
            Some("requests.cpu for: a,b")
        );
    }
}
