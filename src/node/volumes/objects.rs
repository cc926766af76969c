//! Where volumes get their content: the kubelet answers, so no API client is needed here.

use async_trait::async_trait;
use cri::ImageId;
use env::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use semantics::downward_api::NodeFacts;

/// The API as volumes see it. `None` says that there is no such object; an error's text is shown to the user.
#[async_trait]
pub trait Objects: Send + Sync {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String>;
    async fn persistent_volume_claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PersistentVolumeClaim>, String>;
    async fn persistent_volume(&self, name: &str) -> Result<Option<PersistentVolume>, String>;
    /// A fresh token from the API (`serviceaccounts/token`), or the last one while no API server answers.
    async fn token(&self, request: &TokenRequest) -> Result<Token, String>;
    /// The id of an image that is on the node, pulled as the policy says with the pod's credentials.
    async fn image(
        &self,
        pod: &Pod,
        reference: &str,
        pull_policy: Option<&str>,
    ) -> Result<ImageId, String>;
    /// What the pod object does not say about the pod.
    async fn facts(&self, pod: &Pod) -> NodeFacts;
}

/// A token bound to a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    pub namespace: String,
    pub service_account: String,
    pub pod_name: String,
    pub pod_uid: String,
    /// Empty: the API server's own.
    pub audience: Option<String>,
    pub expiration_seconds: i64,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub token: String,
    pub expires: Timestamp,
    pub source: TokenSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The API server has just given it.
    Fresh,
    /// It was given before, and may have expired.
    Remembered,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Token")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
