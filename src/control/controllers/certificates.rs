//! Certificate signing requests: approves those of kubelets that may, signs what is approved, removes what is old.

mod plan;
mod rules;
mod signer;

use std::sync::Arc;

use apimachinery::{Object, ObjectKey};
use controller::{Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use pki::CertificateRequest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
pub use signer::{AuthoritySigner, CertificateSigner, IssuedFor};

pub(crate) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(crate) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(crate) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub(crate) const LEGACY: &str = "kubernetes.io/legacy-unknown";

pub(crate) struct Certificates {
    requests: Arc<Cache>,
    nodes: Arc<Cache>,
    /// Without one nothing is signed.
    signer: Option<Arc<dyn CertificateSigner>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Raw {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    creation_timestamp: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    request: String,
    signer_name: String,
    usages: Vec<String>,
    expiration_seconds: Option<u64>,
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: Value,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Status {
    certificate: String,
    conditions: Vec<Condition>,
}

/// What the plan of one request needs.
pub(crate) struct View {
    key: ObjectKey,
    uid: String,
    revision: i64,
    created: Option<Timestamp>,
    spec: Spec,
    status: Status,
    request: Result<CertificateRequest, String>,
    /// The names and addresses in the status of the node that asks for a serving certificate.
    node_names: Vec<String>,
    /// What access reviews have answered, in the order they were asked; empty: not asked.
    reviews: Vec<bool>,
}

impl Certificates {
    pub(crate) fn new(factory: &Factory, signer: Option<Arc<dyn CertificateSigner>>) -> Self {
        Self {
            requests: factory.all::<CertificateSigningRequest>(),
            nodes: factory.all::<Node>(),
            signer,
        }
    }

    fn node_names(&self, user: &str) -> Vec<String> {
        let Some(name) = user.strip_prefix("system:node:") else {
            return Vec::new();
        };
        let node = self
            .nodes
            .get(&ObjectKey::cluster(name))
            .and_then(|node| node.decode::<Node>().ok());
        let addresses = node
            .and_then(|node| node.status?.addresses)
            .unwrap_or_default();
        addresses
            .into_iter()
            .map(|address| address.address)
            .collect()
    }
}

fn is_allowed(review: &Object) -> bool {
    review.at(&["status", "allowed"]) == Some(&Value::Bool(true))
}

impl Controller for Certificates {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "certificate-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.requests);
        on.read(&self.nodes);
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self.requests.get(key)?;
        let raw: Raw = stored.decode().ok()?;
        Some(View {
            key: key.clone(),
            uid: stored.index.uid.clone(),
            revision: stored.revision,
            created: Timestamp::parse(&raw.metadata.creation_timestamp),
            request: rules::read(&raw.spec.request),
            node_names: self.node_names(&raw.spec.username),
            reviews: past.outcomes.answers.iter().map(is_allowed).collect(),
            spec: raw.spec,
            status: raw.status,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, self.signer.as_deref(), now)
    }
}
