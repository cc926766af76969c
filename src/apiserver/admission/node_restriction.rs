//! NodeRestriction: a kubelet writes its own Node, lease and pods, and no label that decides what it may be given.

use std::sync::Arc;

use apimachinery::{ApiError, Object, ObjectKey};
use async_trait::async_trait;
use auth::{Objects, node_name};
use serde_json::Value;

use crate::{AdmissionRequest, Operation, Plugin};

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels with these suffixes may be set by a node on itself; of the rest of `kubernetes.io` and `k8s.io` only those below.
const OWN_PREFIXES: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

#[derive(Debug)]
pub(crate) struct NodeRestriction {
    objects: Arc<dyn Objects>,
}

impl NodeRestriction {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn check(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        match (
            request.resource.group.as_ref(),
            request.resource.resource.as_ref(),
            request.subresource,
        ) {
            ("", "pods", "") => self.check_pod(node, request).await,
            ("", "pods", "status") => self.check_bound_here(node, request, "update status for"),
            ("", "pods", "eviction") => self.check_eviction(node, request).await,
            ("", "nodes", _) => check_node(node, request),
            ("coordination.k8s.io", "leases", _) => check_own(node, request, "lease"),
            ("storage.k8s.io", "csinodes", _) => check_own(node, request, "csinode"),
            _ => Ok(()),
        }
    }

    async fn check_pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        match request.operation {
            Operation::Create => self.check_mirror_pod(node, request).await,
            Operation::Delete => self.check_bound_here(node, request, "delete"),
            _ => Err(request.forbidden(format!("unexpected operation by node {node:?}"))),
        }
    }

    async fn check_mirror_pod(
        &self,
        node: &str,
        request: &AdmissionRequest<'_>,
    ) -> Result<(), ApiError> {
        let Some(pod) = request.object.as_deref() else {
            return Ok(());
        };
        if pod.annotation(MIRROR).is_none() {
            return Err(request.forbidden(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            )));
        }
        if pod.text_at(&["spec", "nodeName"]) != node {
            return Err(request.forbidden(format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            )));
        }
        let stored = self
            .objects
            .get("", "nodes", &ObjectKey::cluster(node))
            .await;
        let uid = stored
            .map(|stored| stored.index.uid.clone())
            .unwrap_or_default();
        let owners = pod.owner_references();
        let is_owned_by_node = matches!(owners.as_slice(), [owner]
            if owner.kind == "Node" && owner.api_version == "v1" && owner.name == node && owner.uid == uid);
        if !is_owned_by_node {
            return Err(request.forbidden(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            )));
        }
        Ok(())
    }

    fn check_bound_here(
        &self,
        node: &str,
        request: &AdmissionRequest<'_>,
        what: &str,
    ) -> Result<(), ApiError> {
        let bound_to = request
            .old
            .map(|pod| pod.text_at(&["spec", "nodeName"]))
            .unwrap_or_default();
        if bound_to == node {
            return Ok(());
        }
        Err(request.forbidden(format!(
            "node {node:?} can only {what} pods with spec.nodeName set to itself"
        )))
    }

    async fn check_eviction(
        &self,
        node: &str,
        request: &AdmissionRequest<'_>,
    ) -> Result<(), ApiError> {
        let key = ObjectKey::namespaced(request.namespace, request.name);
        let pod = self.objects.get("", "pods", &key).await;
        if pod.is_some_and(|pod| pod.index.field("spec.nodeName") == Some(node)) {
            return Ok(());
        }
        Err(request.forbidden(format!(
            "node {node:?} can only evict pods with spec.nodeName set to itself"
        )))
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        if let Some(node) = node_name(request.user) {
            self.check(node, request).await?;
        }
        Ok(Vec::new())
    }
}

fn check_own(node: &str, request: &AdmissionRequest<'_>, what: &str) -> Result<(), ApiError> {
    let name = request.object.as_deref().map_or(request.name, Object::name);
    if name == node {
        return Ok(());
    }
    Err(request.forbidden(format!(
        "can only access node {what} with the same name as the requesting node"
    )))
}

fn check_node(node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let name = request.object.as_deref().map_or(request.name, Object::name);
    if name != node {
        return Err(request.forbidden(format!(
            "node {node:?} is not allowed to modify node {name:?}"
        )));
    }
    let Some(new) = request.object.as_deref() else {
        return Ok(());
    };
    if request.operation == Operation::Create {
        return refuse_labels(node, request, forbidden_labels(new, None), "set");
    }
    let Some(old) = request.old else {
        return Ok(());
    };
    if request.subresource.is_empty() && new.at(&["spec", "taints"]) != old.at(&["spec", "taints"])
    {
        return Err(request.forbidden(format!("node {node:?} is not allowed to modify taints")));
    }
    if new
        .metadata()
        .and_then(|metadata| metadata.get("ownerReferences"))
        != old
            .metadata()
            .and_then(|metadata| metadata.get("ownerReferences"))
    {
        return Err(request.forbidden(format!(
            "node {node:?} is not allowed to modify ownerReferences"
        )));
    }
    refuse_labels(node, request, forbidden_labels(new, Some(old)), "modify")
}

fn refuse_labels(
    node: &str,
    request: &AdmissionRequest<'_>,
    labels: Vec<String>,
    verb: &str,
) -> Result<(), ApiError> {
    if labels.is_empty() {
        return Ok(());
    }
    Err(request.forbidden(format!(
        "node {node:?} is not allowed to {verb} the following labels: {}",
        labels.join(", ")
    )))
}

/// Labels that differ from the old ones and that are not a node's to set.
fn forbidden_labels(new: &Object, old: Option<&Object>) -> Vec<String> {
    let labels = |object: &Object| -> Vec<(String, Value)> {
        object
            .metadata()
            .and_then(|metadata| metadata.get("labels"))
            .and_then(Value::as_object)
            .map(|labels| {
                labels
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            })
            .unwrap_or_default()
    };
    let (new, old) = (labels(new), old.map(labels).unwrap_or_default());
    let mut changed: Vec<String> = new
        .iter()
        .filter(|label| !old.contains(label))
        .chain(
            old.iter()
                .filter(|(key, _)| !new.iter().any(|(name, _)| name == key)),
        )
        .map(|(key, _)| key.clone())
        .filter(|key| !is_own_label(key))
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

fn is_own_label(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else {
        return true;
    };
    if OWN_LABELS.contains(&key) {
        return true;
    }
    let is_under = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if OWN_PREFIXES.iter().any(|domain| is_under(domain))
        && prefix != "node-restriction.kubernetes.io"
    {
        return true;
    }
    !(is_under("kubernetes.io") || is_under("k8s.io") || is_under("combo.io"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_sets_only_labels_that_decide_nothing() {
        for own in [
            "a",
            "example.com/a",
            "kubernetes.io/hostname",
            "kubelet.kubernetes.io/x",
            "topology.kubernetes.io/zone",
        ] {
            assert!(is_own_label(own), "{own}");
        }
        for foreign in [
            "node-restriction.kubernetes.io/a",
            "node-role.kubernetes.io/control-plane",
            "combo.io/autonomy",
        ] {
            assert!(!is_own_label(foreign), "{foreign}");
        }
    }
}
