//! API objects that pods refer to: config maps and secrets read when a container is made, Services from a shared cache.

use std::sync::Arc;

use informer::Cache;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube_client::{Client, ClientError};

use crate::images::Keyring;
use crate::pods::facts::{namespace, spec};

pub(crate) struct Objects {
    client: Client,
    services: Arc<Cache>,
}

impl Objects {
    /// Must be made within a runtime.
    pub(crate) fn new(client: Client, factory: &informer::Factory) -> Self {
        Self { client, services: factory.all::<Service>() }
    }

    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ClientError> {
        self.client.api::<ConfigMap>(namespace).get_optional(name).await
    }

    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClientError> {
        self.client.api::<Secret>(namespace).get_optional(name).await
    }

    /// The Services a pod of this namespace may see as variables; `None` until they were read once.
    pub(crate) fn services(&self, namespace: &str) -> Option<Vec<Service>> {
        if !self.services.is_synced() {
            return None;
        }
        let mut found = self.services.list_namespace(namespace);
        if namespace != "default" {
            let key = apimachinery::ObjectKey::namespaced("default", "kubernetes");
            found.extend(self.services.get(&key));
        }
        Some(found.iter().filter_map(|service| service.decode().ok()).collect())
    }

    /// Credentials of the pod's `imagePullSecrets`. A secret that is missing or cannot be read adds none: the image may be public.
    pub(crate) async fn keyring(&self, pod: &Pod) -> Keyring {
        let mut secrets = Vec::new();
        for reference in spec(pod).image_pull_secrets.iter().flatten() {
            match self.secret(namespace(pod), &reference.name).await {
                Ok(found) => secrets.extend(found),
                Err(error) => tracing::debug!(%error, secret = reference.name, "a pull secret is not read"),
            }
        }
        Keyring::from_secrets(&secrets)
    }
}
