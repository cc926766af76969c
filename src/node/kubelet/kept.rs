//! What of the API a node remembers, so that its pods run when no server answers.

use std::net::IpAddr;

use apimachinery::{GroupVersionResource, StoredObject};
use informer::{Keep, Kept, Memory, Selections, always};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube_client::{ListRequest, resource_of};
use serde_json::Value;

use crate::pods::facts::is_terminal;

/// The plan for the memory of a node's caches: those of its kubelet and of its network.
pub fn kept_on_a_node(node_name: &str) -> Vec<Kept> {
    use Selections::{ByField, Others};
    let mut plan = vec![
        kept::<Pod>(ByField, Keep::Each),
        kept::<Secret>(ByField, Keep::Each),
        kept::<ConfigMap>(ByField, Keep::Each),
        // Policies speak of all pods, which are too many to keep. Without a server, those of other nodes are strangers.
        kept::<Pod>(Others, Keep::As(pods_of(node_name))),
        kept::<Service>(Others, Keep::Together),
        kept::<EndpointSlice>(Others, Keep::Together),
        kept::<Namespace>(Others, Keep::Together),
        kept::<NetworkPolicy>(Others, Keep::Together),
    ];
    plan.extend([ByField, Others].map(|selections| Kept {
        is_news: is_more_than_status,
        ..kept::<Node>(selections, Keep::Together)
    }));
    plan
}

fn kept<K: Resource>(selections: Selections, how: Keep) -> Kept {
    Kept {
        resource: resource_of::<K>(),
        selections,
        how,
        is_news: always,
    }
}

/// The addresses that the node's pods have as far as is remembered, primary first, by the pods' uids. Reads the disk.
///
/// Without a server nobody tells Services and policies of other ones.
pub fn remembered_addresses(memory: &Memory, node_name: &str) -> Vec<(String, Vec<IpAddr>)> {
    let pods = memory.recall(&pods_of(node_name)).unwrap_or_default();
    pods.iter()
        .filter_map(|pod| {
            let status = pod.decode::<Pod>().ok()?.status?;
            if is_terminal(status.phase.as_deref()) {
                return None;
            }
            let addresses = status.pod_ips.iter().flatten();
            let addresses = addresses.filter_map(|address| address.ip.parse().ok());
            Some((String::from(&*pod.index.uid), addresses.collect()))
        })
        .collect()
}

/// The pods of one node.
pub(crate) fn pods_of(node_name: &str) -> ListRequest {
    selected(resource_of::<Pod>(), "spec.nodeName", node_name)
}

/// Objects whose `field` has this value.
pub(crate) fn selected(resource: GroupVersionResource, field: &str, value: &str) -> ListRequest {
    ListRequest {
        resource,
        namespace: None,
        label_selector: String::new(),
        field_selector: format!("{field}={value}"),
    }
}

/// Heartbeats change a node's status every few minutes, and nothing that is needed later.
fn is_more_than_status(old: &StoredObject, new: &StoredObject) -> bool {
    let lasting = |object: &StoredObject| {
        let mut tree: Value = serde_json::from_slice(&object.bytes).ok()?;
        tree.as_object_mut()?.remove("status");
        let metadata = tree["metadata"].as_object_mut()?;
        metadata.remove("managedFields");
        // It came over the wire, where versions stand in the object.
        metadata.remove("resourceVersion");
        Some(tree)
    };
    lasting(old) != lasting(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_not_worth_a_write() {
        let node = |label: &str, beat: &str| {
            let text = format!(
                r#"{{"metadata": {{"name": "n", "resourceVersion": "{beat}", "labels": {{"a": "{label}"}}}}, "status": {{"at": "{beat}"}}}}"#
            );
            StoredObject::new(text.into_bytes().into(), 1).unwrap()
        };
        assert!(!is_more_than_status(&node("1", "x"), &node("1", "y")));
        assert!(is_more_than_status(&node("1", "x"), &node("2", "x")));
    }
}
