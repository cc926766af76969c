//! Brings a service's endpoint slices to what they should hold, touching as few of them as possible.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::{Object, ObjectKey, StoredObject};
use controller::Action;
use informer::Index;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::resource_of;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::template_hash::significant;

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// The slices of a service, found by its key.
pub(crate) const OF_SERVICE: Index = Index {
    name: "service",
    values: |slice| {
        let service = slice.index.label(SERVICE_NAME);
        let key = |name| ObjectKey::namespaced(slice.key().namespace.clone(), name).to_string();
        service.map(key).into_iter().collect()
    },
};

/// Endpoints that share an address family and ports.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) address_type: &'static str,
    pub(crate) ports: Vec<Value>,
    pub(crate) endpoints: Vec<Value>,
}

/// What all slices of one owner have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) namespace: String,
    pub(crate) generate_name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) owner: Value,
    pub(crate) endpoints_max: usize,
}

/// A slice as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    key: ObjectKey,
    uid: String,
    revision: i64,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    address_type: String,
    ports: Vec<Value>,
    endpoints: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSlice {
    metadata: RawMetadata,
    #[serde(default)]
    address_type: String,
    ports: Option<Vec<Value>>,
    endpoints: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct RawMetadata {
    annotations: Option<BTreeMap<String, String>>,
}

impl Standing {
    pub(crate) fn of(stored: &StoredObject) -> Option<Self> {
        let raw: RawSlice = stored.decode().ok()?;
        let labels = stored.index.labels.iter();
        Some(Self {
            key: stored.key().clone(),
            uid: stored.index.uid.clone(),
            revision: stored.revision,
            labels: labels
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            annotations: raw.metadata.annotations.unwrap_or_default(),
            address_type: raw.address_type,
            ports: raw.ports.unwrap_or_default(),
            endpoints: raw.endpoints.unwrap_or_default(),
        })
    }

    fn fits(&self, group: &Group) -> bool {
        self.address_type == group.address_type && same(&self.ports, &group.ports)
    }
}

/// The writes that make `standing` hold `groups`.
pub(crate) fn reconcile(common: &Common, standing: &[Standing], groups: &[Group]) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut used: BTreeSet<&ObjectKey> = BTreeSet::new();
    for group in groups {
        let fitting: Vec<&Standing> = standing.iter().filter(|slice| slice.fits(group)).collect();
        used.extend(fitting.iter().map(|slice| &slice.key));
        fill(common, group, &fitting, &mut actions);
    }
    for slice in standing.iter().filter(|slice| !used.contains(&slice.key)) {
        actions.push(Action::delete::<EndpointSlice>(
            slice.key.clone(),
            slice.uid.clone(),
        ));
    }
    reuse(common, standing, actions)
}

/// Turns a slice to be deleted into one to be made, so that there is no moment without either.
fn reuse(common: &Common, standing: &[Standing], actions: Vec<Action>) -> Vec<Action> {
    let (mut gone, mut kept): (Vec<Action>, Vec<Action>) = actions
        .into_iter()
        .partition(|action| matches!(action, Action::Delete { .. }));
    for action in &mut kept {
        let Action::Create { object, .. } = action else {
            continue;
        };
        let family = object.text_at(&["addressType"]);
        let fits = |deletion: &Action| match deletion {
            Action::Delete { key, .. } => standing
                .iter()
                .find(|slice| slice.key == *key && slice.address_type == family),
            _ => None,
        };
        let Some((at, slice)) = gone
            .iter()
            .enumerate()
            .find_map(|(at, deletion)| Some((at, fits(deletion)?)))
        else {
            continue;
        };
        let mut patch = update_patch(common, slice);
        for field in ["ports", "endpoints"] {
            patch[field] = object.at(&[field]).cloned().unwrap_or_default();
        }
        *action = Action::merge::<EndpointSlice>(slice.key.clone(), patch);
        gone.remove(at);
    }
    kept.extend(gone);
    kept
}

/// Endpoints stay in the slice they are in; others go where there is room, then into slices to be made.
fn fill(common: &Common, group: &Group, fitting: &[&Standing], actions: &mut Vec<Action>) {
    let mut left: BTreeMap<String, &Value> = group
        .endpoints
        .iter()
        .map(|endpoint| (identity(endpoint), endpoint))
        .collect();
    let mut contents: Vec<Vec<Value>> = fitting
        .iter()
        .map(|slice| {
            let kept = slice
                .endpoints
                .iter()
                .filter_map(|endpoint| left.remove(&identity(endpoint)));
            kept.take(common.endpoints_max).cloned().collect()
        })
        .collect();
    let mut left: Vec<Value> = group
        .endpoints
        .iter()
        .filter(|endpoint| left.contains_key(&identity(endpoint)))
        .cloned()
        .collect();
    left.reverse();
    for content in &mut contents {
        while content.len() < common.endpoints_max {
            let Some(endpoint) = left.pop() else { break };
            content.push(endpoint);
        }
    }
    left.reverse();
    let is_empty = |content: &Vec<Value>| content.is_empty();
    // A group without endpoints keeps one slice, which says so.
    let mut keeps_one = group.endpoints.is_empty();
    for (slice, content) in fitting.iter().zip(&contents) {
        if is_empty(content) && !std::mem::take(&mut keeps_one) {
            actions.push(Action::delete::<EndpointSlice>(
                slice.key.clone(),
                slice.uid.clone(),
            ));
        } else {
            actions.extend(update(common, slice, content));
        }
    }
    if fitting.is_empty() && group.endpoints.is_empty() {
        actions.push(create(common, group, &[]));
    }
    actions.extend(
        left.chunks(common.endpoints_max)
            .map(|chunk| create(common, group, chunk)),
    );
}

fn update(common: &Common, slice: &Standing, content: &[Value]) -> Option<Action> {
    let is_same = same(&slice.endpoints, content);
    if is_same && slice.labels == common.labels && slice.annotations == common.annotations {
        return None;
    }
    let mut patch = update_patch(common, slice);
    patch["endpoints"] = content.into();
    Some(Action::merge::<EndpointSlice>(slice.key.clone(), patch))
}

/// The part of an update that every slice of the owner has in common.
fn update_patch(common: &Common, slice: &Standing) -> Value {
    json!({"metadata": {
        "resourceVersion": slice.revision.to_string(),
        "labels": replacing(&slice.labels, &common.labels),
        "annotations": replacing(&slice.annotations, &common.annotations),
    }})
}

/// A merge patch that turns one map into another.
fn replacing(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Value {
    let removed = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let set = new
        .iter()
        .map(|(key, value)| (key.clone(), Value::String(value.clone())));
    Value::Object(removed.chain(set).collect())
}

fn create(common: &Common, group: &Group, endpoints: &[Value]) -> Action {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": common.generate_name, "namespace": common.namespace,
            "labels": common.labels, "annotations": common.annotations,
            "ownerReferences": [common.owner],
        },
        "addressType": group.address_type, "ports": group.ports, "endpoints": endpoints,
    });
    Action::Create {
        resource: resource_of::<EndpointSlice>(),
        object: Box::new(Object::from_value(slice).expect("it is an object")),
        announcement: None,
    }
}

/// The pod behind an endpoint, or its address.
fn identity(endpoint: &Value) -> String {
    let pod = endpoint.pointer("/targetRef/uid").and_then(Value::as_str);
    let address = endpoint.pointer("/addresses/0").and_then(Value::as_str);
    pod.or(address).unwrap_or_default().to_owned()
}

fn same(one: &[Value], other: &[Value]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| significant(one) == significant(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common() -> Common {
        Common {
            namespace: "a".into(),
            generate_name: "s-".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: json!({}),
            endpoints_max: 2,
        }
    }

    fn slice(name: &str, addresses: &[&str]) -> Standing {
        Standing {
            key: ObjectKey::namespaced("a", name),
            uid: name.into(),
            revision: 1,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            address_type: "IPv4".into(),
            ports: Vec::new(),
            endpoints: addresses
                .iter()
                .map(|address| json!({"addresses": [address]}))
                .collect(),
        }
    }

    fn group(addresses: &[&str]) -> Group {
        let endpoints = addresses
            .iter()
            .map(|address| json!({"addresses": [address]}))
            .collect();
        Group {
            address_type: "IPv4",
            ports: Vec::new(),
            endpoints,
        }
    }

    #[test]
    fn what_stands_right_is_not_touched() {
        let standing = [slice("x", &["1", "2"]), slice("y", &["3"])];
        assert!(reconcile(&common(), &standing, &[group(&["1", "2", "3"])]).is_empty());
    }

    #[test]
    fn a_new_endpoint_goes_where_there_is_room_and_an_empty_slice_goes() {
        let standing = [slice("x", &["1", "2"]), slice("y", &["3"])];
        let actions = reconcile(&common(), &standing, &[group(&["1", "2", "4"])]);
        assert!(matches!(&actions[..], [Action::Patch { key, .. }] if key.name == "y"));
        let actions = reconcile(&common(), &standing, &[group(&["1", "2"])]);
        assert!(matches!(&actions[..], [Action::Delete { key, .. }] if key.name == "y"));
        let actions = reconcile(&common(), &standing, &[group(&["1", "2", "3", "4", "5"])]);
        assert!(matches!(
            &actions[..],
            [Action::Patch { .. }, Action::Create { .. }]
        ));
    }

    #[test]
    fn a_slice_whose_ports_are_gone_is_used_for_others() {
        let mut changed = group(&["1"]);
        changed.ports = vec![json!({"port": 80})];
        let actions = reconcile(&common(), &[slice("x", &["1"])], &[changed]);
        assert!(matches!(&actions[..], [Action::Patch { key, .. }] if key.name == "x"));
    }

    #[test]
    fn a_service_without_endpoints_has_one_empty_slice() {
        assert!(matches!(
            &reconcile(&common(), &[], &[group(&[])])[..],
            [Action::Create { .. }]
        ));
        let actions = reconcile(&common(), &[slice("x", &["1"])], &[group(&[])]);
        assert!(matches!(&actions[..], [Action::Patch { .. }]));
    }
}
