//! API objects that pods refer to. What a pod mounts or reads is watched, object by object, for as long as the pod is here:
//! that is all a node may see of secrets and config maps, and a change brings the pod's volumes up to date at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use apimachinery::{GroupVersionResource, ObjectKey, StoredObject};
use async_trait::async_trait;
use cri::{ImageId, ImageService, ImageSpec};
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use kube_client::{Client, ClientError, ListRequest, resource_of};
use parking_lot::Mutex;
use semantics::containers::as_container;
use semantics::downward_api::NodeFacts;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volumes::{Token, TokenRequest};

use crate::container::env::{Reference, references};
use crate::images::Keyring;
use crate::pods::PodTable;
use crate::pods::facts::{containers, ephemeral_containers, init_containers, namespace, spec, uid};

/// How long a caller waits for the first answer about an object.
pub(crate) const SYNC_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn resource(self) -> GroupVersionResource {
        match self {
            Self::ConfigMap => resource_of::<ConfigMap>(),
            Self::Secret => resource_of::<Secret>(),
        }
    }
}

type Key = (Kind, ObjectKey);

/// One object and the pods that use it.
struct Watched {
    cache: Arc<Cache>,
    pods: Arc<Mutex<BTreeSet<String>>>,
}

pub(crate) struct ApiObjects {
    client: Client,
    factory: Factory,
    services: Arc<Cache>,
    images: Arc<dyn ImageService>,
    table: Arc<PodTable>,
    facts: NodeFacts,
    watched: Mutex<BTreeMap<Key, Watched>>,
}

impl ApiObjects {
    /// Must be made within a runtime.
    pub(crate) fn new(
        client: Client,
        factory: Factory,
        images: Arc<dyn ImageService>,
        table: Arc<PodTable>,
        facts: NodeFacts,
    ) -> Self {
        let services = factory.all::<Service>();
        Self {
            client,
            factory,
            services,
            images,
            table,
            facts,
            watched: Mutex::new(BTreeMap::new()),
        }
    }

    /// Watches what the pod refers to; what it no longer refers to is let go.
    pub(crate) fn follow(&self, pod: &Pod) {
        let wanted = keys_of(pod);
        let mut watched = self.watched.lock();
        let own = uid(pod);
        watched.retain(|key, entry| wanted.contains(key) || !entry.drop_pod(own));
        for key in wanted {
            let entry = watched
                .entry(key.clone())
                .or_insert_with(|| self.watch(&key));
            entry.pods.lock().insert(own.to_owned());
        }
    }

    /// Lets go of everything a pod refers to.
    pub(crate) fn forget(&self, pod_uid: &str) {
        self.watched
            .lock()
            .retain(|_, entry| !entry.drop_pod(pod_uid));
    }

    fn watch(&self, (kind, key): &Key) -> Watched {
        let cache = self.factory.cache(ListRequest {
            resource: kind.resource(),
            namespace: Some(key.namespace.clone()),
            label_selector: String::new(),
            field_selector: format!("metadata.name={}", key.name),
        });
        let pods: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (users, table, itself) = (
            Arc::clone(&pods),
            Arc::clone(&self.table),
            Arc::downgrade(&cache),
        );
        cache.observe(move |_| {
            // What the first list brings is news to nobody: whoever asked waits for it.
            if Weak::upgrade(&itself).is_some_and(|cache| cache.is_synced()) {
                let users: Vec<String> = users.lock().iter().cloned().collect();
                users
                    .iter()
                    .filter_map(|uid| table.get(uid))
                    .for_each(|pod| pod.inputs.refresh_volumes());
            }
        });
        Watched { cache, pods }
    }

    async fn find<T: DeserializeOwned + kube_client::Kind>(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, String> {
        let key = ObjectKey::namespaced(namespace, name);
        let cache = self
            .watched
            .lock()
            .get(&(kind, key.clone()))
            .map(|entry| Arc::clone(&entry.cache));
        let Some(cache) = cache else {
            return self
                .client
                .api::<T>(namespace)
                .get_optional(name)
                .await
                .map_err(|error| error.to_string());
        };
        if env::timeout(SYNC_MAX, cache.wait_for_sync()).await.is_err() {
            // The cache goes on trying; the API's own words tell more than a timeout.
            let found = self.client.api::<T>(namespace).get_optional(name).await;
            return found.map_err(|error| error.to_string());
        }
        let object: Option<StoredObject> = cache.get(&key);
        object
            .map(|object| object.decode().map_err(|error| error.to_string()))
            .transpose()
    }

    pub(crate) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ConfigMap>, String> {
        self.find(Kind::ConfigMap, namespace, name).await
    }

    pub(crate) async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Secret>, String> {
        self.find(Kind::Secret, namespace, name).await
    }

    /// The Services a pod of this namespace may see as variables; `None` until they were read once.
    pub(crate) async fn services(
        &self,
        namespace: &str,
        patience: Duration,
    ) -> Option<Vec<Service>> {
        if !self.services.is_synced() {
            env::timeout(patience, self.services.wait_for_sync())
                .await
                .ok()?;
        }
        let mut found = self.services.list_namespace(namespace);
        if namespace != "default" {
            found.extend(
                self.services
                    .get(&ObjectKey::namespaced("default", "kubernetes")),
            );
        }
        Some(
            found
                .iter()
                .filter_map(|service| service.decode().ok())
                .collect(),
        )
    }

    /// Credentials of the pod's `imagePullSecrets`. A secret that is missing or cannot be read adds none: the image may be public.
    pub(crate) async fn keyring(&self, pod: &Pod) -> Keyring {
        let mut secrets = Vec::new();
        for reference in spec(pod).image_pull_secrets.iter().flatten() {
            match self.secret(namespace(pod), &reference.name).await {
                Ok(found) => secrets.extend(found),
                Err(error) => {
                    tracing::debug!(error, secret = reference.name, "a pull secret is not read");
                }
            }
        }
        Keyring::from_secrets(&secrets)
    }

    async fn request_token(&self, request: &TokenRequest) -> Result<Token, ClientError> {
        let audiences: Vec<&String> = request.audience.iter().collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": request.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": request.pod_name, "uid": request.pod_uid}
            }
        });
        let api = self.client.api::<ServiceAccount>(&request.namespace);
        let answer: Value = api
            .create_subresource(&request.service_account, "token", &body)
            .await?;
        let text = |field: &str| answer["status"][field].as_str().unwrap_or_default();
        let expires = env::Timestamp::parse(text("expirationTimestamp")).ok_or_else(|| {
            ClientError::Malformed("a token without expirationTimestamp".to_owned())
        })?;
        Ok(Token {
            token: text("token").to_owned(),
            expires,
        })
    }
}

impl Watched {
    /// True if nobody uses it any more.
    fn drop_pod(&self, uid: &str) -> bool {
        let mut pods = self.pods.lock();
        pods.remove(uid);
        pods.is_empty()
    }
}

fn keys_of(pod: &Pod) -> BTreeSet<Key> {
    let mut names: BTreeSet<(Kind, String)> = BTreeSet::new();
    let ephemeral: Vec<_> = ephemeral_containers(pod).iter().map(as_container).collect();
    for container in containers(pod)
        .iter()
        .chain(init_containers(pod))
        .chain(&ephemeral)
    {
        names.extend(
            references(container)
                .into_iter()
                .map(|reference| match reference {
                    Reference::ConfigMap(name) => (Kind::ConfigMap, name),
                    Reference::Secret(name) => (Kind::Secret, name),
                }),
        );
    }
    for volume in spec(pod).volumes.iter().flatten() {
        names.extend(
            volume
                .config_map
                .as_ref()
                .map(|source| (Kind::ConfigMap, source.name.clone())),
        );
        names.extend(
            volume
                .secret
                .as_ref()
                .and_then(|source| source.secret_name.clone())
                .map(|name| (Kind::Secret, name)),
        );
        let projected = volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten());
        for source in projected {
            names.extend(
                source
                    .config_map
                    .as_ref()
                    .map(|source| (Kind::ConfigMap, source.name.clone())),
            );
            names.extend(
                source
                    .secret
                    .as_ref()
                    .map(|source| (Kind::Secret, source.name.clone())),
            );
        }
    }
    let key = |(kind, name): (Kind, String)| (kind, ObjectKey::namespaced(namespace(pod), name));
    names
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
        .map(key)
        .collect()
}

#[async_trait]
impl volumes::Objects for ApiObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        self.find(Kind::ConfigMap, namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        self.find(Kind::Secret, namespace, name).await
    }

    async fn persistent_volume_claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PersistentVolumeClaim>, String> {
        self.client
            .api::<PersistentVolumeClaim>(namespace)
            .get_optional(name)
            .await
            .map_err(|error| error.to_string())
    }

    async fn persistent_volume(&self, name: &str) -> Result<Option<PersistentVolume>, String> {
        self.client
            .api::<PersistentVolume>("")
            .get_optional(name)
            .await
            .map_err(|error| error.to_string())
    }

    async fn token(&self, request: &TokenRequest) -> Result<Token, String> {
        self.request_token(request)
            .await
            .map_err(|error| error.to_string())
    }

    async fn image(
        &self,
        pod: &Pod,
        reference: &str,
        pull_policy: Option<&str>,
    ) -> Result<ImageId, String> {
        let reference = crate::images::with_default_tag(reference)?;
        let text = |error: cri::Error| error.to_string();
        if pull_policy != Some("Always")
            && let Some(found) = self.images.image_status(&reference).await.map_err(text)?
        {
            return Ok(found.id);
        }
        if pull_policy == Some("Never") {
            return Err(format!(
                "Container image {reference:?} is not present with pull policy of Never"
            ));
        }
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let image = ImageSpec {
            reference: reference.clone(),
            annotations,
        };
        let keyring = self.keyring(pod).await;
        let mut last = None;
        for auth in keyring.for_image(&reference) {
            match self.images.pull_image(&image, Some(auth)).await {
                Ok(id) => return Ok(id),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(text(error)),
            None => self.images.pull_image(&image, None).await.map_err(text),
        }
    }

    async fn facts(&self, _pod: &Pod) -> NodeFacts {
        self.facts.clone()
    }
}
