//! The Node authorizer: a kubelet reads and writes only what belongs to its own node and pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{FieldSelector, ObjectKey};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::{Attributes, Authorizer, Decision, Objects, Rule, User};

const NODES_GROUP: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The node that `user` is, if it is one.
pub fn node_name(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    (user.is_in(NODES_GROUP) && !name.is_empty()).then_some(name)
}

#[derive(Debug)]
pub struct NodeAuthorizer {
    objects: Arc<dyn Objects>,
    /// What every node may do whatever its pods; NodeRestriction narrows the writes.
    common: Vec<Rule>,
}

impl NodeAuthorizer {
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self {
            objects,
            common: common_rules(),
        }
    }

    async fn decide(&self, node: &str, attributes: &Attributes) -> Result<(), String> {
        match (attributes.api_group.as_str(), attributes.resource.as_str()) {
            ("", "secrets" | "configmaps") => {
                self.read_of_own_pods(node, attributes, Access::ByName)
                    .await
            }
            ("", "persistentvolumeclaims") if attributes.subresource.is_empty() => {
                self.read_of_own_pods(node, attributes, Access::Get).await
            }
            ("", "persistentvolumes") => self.read_of_own_pods(node, attributes, Access::Get).await,
            ("resource.k8s.io", "resourceclaims") => {
                self.read_of_own_pods(node, attributes, Access::Get).await
            }
            ("", "serviceaccounts") => self.service_account(node, attributes).await,
            ("", "nodes") => own_node(node, attributes, &self.common),
            ("", "pods") => self.pods(node, attributes).await,
            ("coordination.k8s.io", "leases") => own_lease(node, attributes),
            ("storage.k8s.io", "csinodes") => own_named(
                node,
                attributes,
                &["create", "get", "update", "patch", "delete"],
            ),
            _ => self.common(attributes),
        }
    }

    fn common(&self, attributes: &Attributes) -> Result<(), String> {
        if self.common.iter().any(|rule| rule.allows(attributes)) {
            Ok(())
        } else {
            Err(String::new())
        }
    }

    async fn read_of_own_pods(
        &self,
        node: &str,
        attributes: &Attributes,
        access: Access,
    ) -> Result<(), String> {
        access.check(attributes)?;
        let wanted = Wanted {
            kind: attributes.resource.as_str(),
            key: ObjectKey::namespaced(attributes.namespace.clone(), attributes.name.clone()),
        };
        if wanted.kind == "persistentvolumes" {
            return self.volume_of_own_pods(node, &wanted.key.name).await;
        }
        if self.is_used_on(node, &wanted).await {
            Ok(())
        } else {
            Err(no_relation(node, attributes))
        }
    }

    async fn volume_of_own_pods(&self, node: &str, volume: &str) -> Result<(), String> {
        let no_relation = || format!("no relationship found between node '{node}' and this object");
        let stored = self
            .objects
            .get("", "persistentvolumes", &ObjectKey::cluster(volume))
            .await
            .ok_or_else(no_relation)?;
        let volume: Value = stored.decode().unwrap_or_default();
        let claim = &volume["spec"]["claimRef"];
        let text = |field: &str| claim[field].as_str().unwrap_or_default().to_owned();
        let wanted = Wanted {
            kind: "persistentvolumeclaims",
            key: ObjectKey::namespaced(text("namespace"), text("name")),
        };
        if self.is_used_on(node, &wanted).await {
            Ok(())
        } else {
            Err(no_relation())
        }
    }

    async fn is_used_on(&self, node: &str, wanted: &Wanted<'_>) -> bool {
        self.objects.pods_on_node(node).await.iter().any(|pod| {
            pod.key().namespace == wanted.key.namespace
                && pod
                    .view::<PodView>()
                    .is_ok_and(|view| view.uses(wanted, &pod.key().name))
        })
    }

    async fn service_account(&self, node: &str, attributes: &Attributes) -> Result<(), String> {
        if attributes.verb == "create" && attributes.subresource == "token" {
            let wanted = Wanted {
                kind: "serviceaccounts",
                key: ObjectKey::namespaced(attributes.namespace.clone(), attributes.name.clone()),
            };
            if self.is_used_on(node, &wanted).await {
                return Ok(());
            }
            return Err(no_relation(node, attributes));
        }
        if attributes.verb == "get" && attributes.subresource.is_empty() {
            return self.read_of_own_pods(node, attributes, Access::Get).await;
        }
        Err("can only create tokens for individual service accounts".to_owned())
    }

    async fn pods(&self, node: &str, attributes: &Attributes) -> Result<(), String> {
        match (attributes.verb.as_str(), attributes.subresource.as_str()) {
            ("list" | "watch", "") => {
                let selected = FieldSelector::parse(&attributes.field_selector).unwrap_or_default();
                if selected.exact("spec.nodeName") == Some(node) {
                    return Ok(());
                }
                Err(format!(
                    "can only list/watch pods with spec.nodeName field selector of node '{node}'"
                ))
            }
            ("get", "") => {
                let key =
                    ObjectKey::namespaced(attributes.namespace.clone(), attributes.name.clone());
                let pod = self.objects.get("", "pods", &key).await;
                if pod.is_some_and(|pod| pod.index.field("spec.nodeName") == Some(node)) {
                    return Ok(());
                }
                Err(no_relation(node, attributes))
            }
            _ => self.common(attributes),
        }
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let Some(node) = node_name(&attributes.user) else {
            return Decision::NoOpinion {
                reason: String::new(),
            };
        };
        if attributes.path.is_some() {
            return Decision::NoOpinion {
                reason: String::new(),
            };
        }
        match self.decide(node, attributes).await {
            Ok(()) => Decision::Allow {
                reason: String::new(),
            },
            Err(reason) => Decision::NoOpinion { reason },
        }
    }
}

#[derive(Clone, Copy)]
enum Access {
    Get,
    /// Also list and watch of exactly one object.
    ByName,
}

impl Access {
    fn check(self, attributes: &Attributes) -> Result<(), String> {
        let allowed: &[&str] = match self {
            Self::Get => &["get"],
            Self::ByName => &["get", "list", "watch"],
        };
        if !allowed.contains(&attributes.verb.as_str()) {
            return Err(format!(
                "can only read resources of this type: {}",
                attributes.resource
            ));
        }
        if !attributes.subresource.is_empty() {
            return Err("cannot read subresource".to_owned());
        }
        if attributes.name.is_empty() {
            return Err("can only read namespaced object of this type".to_owned());
        }
        Ok(())
    }
}

fn no_relation(node: &str, _attributes: &Attributes) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn own_named(node: &str, attributes: &Attributes, verbs: &[&str]) -> Result<(), String> {
    if !verbs.contains(&attributes.verb.as_str()) {
        return Err(format!("can only {} its own object", verbs.join(", ")));
    }
    if attributes.verb != "create" && attributes.name != node {
        return Err(format!("can only access '{node}'"));
    }
    Ok(())
}

fn own_node(node: &str, attributes: &Attributes, common: &[Rule]) -> Result<(), String> {
    match attributes.verb.as_str() {
        "get" if attributes.name == node && attributes.subresource.is_empty() => Ok(()),
        "list" | "watch" if attributes.name == node => Ok(()),
        "get" | "list" | "watch" => Err(format!(
            "node '{node}' cannot read '{}', only its own Node object",
            attributes.name
        )),
        _ if common.iter().any(|rule| rule.allows(attributes)) => Ok(()),
        _ => Err(String::new()),
    }
}

fn own_lease(node: &str, attributes: &Attributes) -> Result<(), String> {
    if attributes.namespace != LEASE_NAMESPACE {
        return Err(format!(
            "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
        ));
    }
    own_named(
        node,
        attributes,
        &["get", "create", "update", "patch", "delete"],
    )
}

fn common_rules() -> Vec<Rule> {
    vec![
        Rule::resources(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        Rule::resources(
            &["create"],
            &["authorization.k8s.io"],
            &["subjectaccessreviews", "localsubjectaccessreviews"],
        ),
        Rule::resources(&["get", "list", "watch"], &[""], &["services"]),
        Rule::resources(&["create"], &[""], &["nodes"]),
        Rule::resources(&["update", "patch"], &[""], &["nodes", "nodes/status"]),
        Rule::resources(&["create", "delete"], &[""], &["pods"]),
        Rule::resources(&["update", "patch"], &[""], &["pods/status"]),
        Rule::resources(&["create"], &[""], &["pods/eviction"]),
        Rule::resources(
            &["create", "update", "patch"],
            &["", "events.k8s.io"],
            &["events"],
        ),
        Rule::resources(
            &["update", "patch"],
            &[""],
            &["persistentvolumeclaims/status"],
        ),
        Rule::resources(&["get"], &["storage.k8s.io"], &["volumeattachments"]),
        Rule::resources(
            &["create", "get", "list", "watch"],
            &["certificates.k8s.io"],
            &["certificatesigningrequests"],
        ),
        Rule::resources(
            &["get", "list", "watch"],
            &["storage.k8s.io"],
            &["csidrivers"],
        ),
        Rule::resources(
            &["get", "list", "watch"],
            &["node.k8s.io"],
            &["runtimeclasses"],
        ),
    ]
}

struct Wanted<'a> {
    kind: &'a str,
    key: ObjectKey,
}

/// The references in a pod, and nothing else of it.
#[derive(Deserialize)]
struct PodView {
    #[serde(default)]
    metadata: MetadataView,
    spec: SpecView,
}

#[derive(Default, Deserialize)]
struct MetadataView {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecView {
    #[serde(default)]
    service_account_name: String,
    #[serde(default)]
    image_pull_secrets: Vec<Value>,
    #[serde(default)]
    volumes: Vec<Value>,
    #[serde(default)]
    containers: Vec<ContainerView>,
    #[serde(default)]
    init_containers: Vec<ContainerView>,
    #[serde(default)]
    ephemeral_containers: Vec<ContainerView>,
    #[serde(default)]
    resource_claims: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerView {
    #[serde(default)]
    env: Vec<Value>,
    #[serde(default)]
    env_from: Vec<Value>,
}

impl PodView {
    fn uses(&self, wanted: &Wanted<'_>, pod_name: &str) -> bool {
        // A mirror pod is made by the node itself: its references give it no rights.
        if self
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|map| map.contains_key("kubernetes.io/config.mirror"))
        {
            return false;
        }
        let name = Value::String(wanted.key.name.clone());
        match wanted.kind {
            "secrets" => self.uses_secret(&name),
            "configmaps" => self.uses_config_map(&name),
            "serviceaccounts" => self.spec.service_account_name == wanted.key.name,
            "persistentvolumeclaims" => self.uses_claim(&name, pod_name),
            "resourceclaims" => self
                .spec
                .resource_claims
                .iter()
                .any(|claim| claim["resourceClaimName"] == name),
            _ => false,
        }
    }

    fn containers(&self) -> impl Iterator<Item = &ContainerView> {
        let spec = &self.spec;
        spec.containers
            .iter()
            .chain(&spec.init_containers)
            .chain(&spec.ephemeral_containers)
    }

    fn env_uses(&self, key_ref: &str, source_ref: &str, name: &Value) -> bool {
        self.containers().any(|container| {
            container
                .env
                .iter()
                .any(|variable| variable["valueFrom"][key_ref]["name"] == *name)
                || container
                    .env_from
                    .iter()
                    .any(|source| source[source_ref]["name"] == *name)
        })
    }

    fn projected(&self, source: &str, name: &Value) -> bool {
        self.spec.volumes.iter().any(|volume| {
            volume["projected"]["sources"]
                .as_array()
                .is_some_and(|sources| {
                    sources
                        .iter()
                        .any(|projection| projection[source]["name"] == *name)
                })
        })
    }

    fn uses_secret(&self, name: &Value) -> bool {
        const REFERENCES: &[&str] = &[
            "azureFile",
            "cephfs",
            "cinder",
            "flexVolume",
            "rbd",
            "scaleIO",
            "iscsi",
            "storageos",
        ];
        self.spec
            .image_pull_secrets
            .iter()
            .any(|secret| secret["name"] == *name)
            || self.env_uses("secretKeyRef", "secretRef", name)
            || self.projected("secret", name)
            || self.spec.volumes.iter().any(|volume| {
                volume["secret"]["secretName"] == *name
                    || volume["csi"]["nodePublishSecretRef"]["name"] == *name
                    || REFERENCES.iter().any(|kind| {
                        volume[kind]["secretRef"]["name"] == *name
                            || volume[kind]["secretName"] == *name
                    })
            })
    }

    fn uses_config_map(&self, name: &Value) -> bool {
        self.env_uses("configMapKeyRef", "configMapRef", name)
            || self.projected("configMap", name)
            || self
                .spec
                .volumes
                .iter()
                .any(|volume| volume["configMap"]["name"] == *name)
    }

    fn uses_claim(&self, name: &Value, pod_name: &str) -> bool {
        self.spec.volumes.iter().any(|volume| {
            volume["persistentVolumeClaim"]["claimName"] == *name
                || (volume["ephemeral"].is_object()
                    && name.as_str()
                        == Some(&format!(
                            "{pod_name}-{}",
                            volume["name"].as_str().unwrap_or_default()
                        )))
        })
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::StoredObject;

    use super::*;

    #[derive(Debug)]
    struct OnePod(StoredObject);

    #[async_trait]
    impl Objects for OnePod {
        async fn get(
            &self,
            _group: &str,
            _resource: &str,
            _key: &ObjectKey,
        ) -> Option<StoredObject> {
            None
        }

        async fn list(&self, _group: &str, _resource: &str, _namespace: &str) -> Vec<StoredObject> {
            Vec::new()
        }

        async fn pods_on_node(&self, node: &str) -> Vec<StoredObject> {
            if node == "n" {
                vec![self.0.clone()]
            } else {
                Vec::new()
            }
        }
    }

    fn authorizer() -> NodeAuthorizer {
        let pod = br#"{"metadata":{"namespace":"a","name":"p"},"spec":{"nodeName":"n","serviceAccountName":"s",
            "containers":[{"env":[{"valueFrom":{"secretKeyRef":{"name":"used"}}}]}]}}"#;
        let pod = StoredObject::new(pod.as_slice().into(), 1).expect("a pod");
        NodeAuthorizer::new(Arc::new(OnePod(pod)))
    }

    async fn allowed(node: &str, verb: &str, resource: &str, name: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = Attributes {
            user: User::named(&format!("system:node:{node}"), &[NODES_GROUP]),
            verb: verb.to_owned(),
            namespace: "a".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        authorizer().authorize(&attributes).await.is_allowed()
    }

    #[tokio::test]
    async fn a_node_reads_the_secrets_of_its_own_pods_only() {
        assert!(allowed("n", "get", "secrets", "used").await);
        assert!(!allowed("n", "get", "secrets", "other").await);
        assert!(!allowed("m", "get", "secrets", "used").await);
        assert!(!allowed("n", "list", "secrets", "").await);
        assert!(!allowed("n", "update", "secrets", "used").await);
        assert!(allowed("n", "create", "serviceaccounts/token", "s").await);
        assert!(!allowed("n", "create", "serviceaccounts/token", "t").await);
    }

    #[tokio::test]
    async fn a_node_reads_its_own_node_only() {
        assert!(allowed("n", "get", "nodes", "n").await);
        assert!(!allowed("n", "get", "nodes", "m").await);
    }
}
