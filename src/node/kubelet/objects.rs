//! API objects that pods refer to. What a pod mounts or reads is watched, object by object, for as long as the pod is here:
//! that is all a node may see of secrets and config maps, and a change brings the pod's volumes up to date at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use apimachinery::{GroupVersionResource, ObjectKey, StoredObject};
use async_trait::async_trait;
use cri::{ImageId, ImageService, ImageSpec};
use informer::{Cache, Factory, is_silence};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use kube_client::{Client, ClientError, ListRequest, resource_of};
use parking_lot::Mutex;
use semantics::containers::as_container;
use semantics::downward_api::NodeFacts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volumes::{Token, TokenRequest, TokenSource};

use crate::container::env::{Reference, references};
use crate::images::Keyring;
use crate::kept::selected;
use crate::last_known::LastKnown;
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
    last_known: LastKnown,
}

impl ApiObjects {
    /// Must be made within a runtime.
    pub(crate) fn new(
        client: Client,
        factory: Factory,
        images: Arc<dyn ImageService>,
        table: Arc<PodTable>,
        facts: NodeFacts,
        last_known: LastKnown,
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
            last_known,
        }
    }

    /// Watches what the pod refers to; what it no longer refers to is let go.
    pub(crate) fn follow(&self, pod: &Pod) {
        let wanted = keys_of(pod);
        let mut watched = self.watched.lock();
        let own = uid(pod);
        watched.retain(|key, entry| wanted.contains(key) || self.is_used(entry, own));
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
            .retain(|_, entry| self.is_used(entry, pod_uid));
    }

    /// Whether another pod uses it; if none does, it is not remembered any more either.
    fn is_used(&self, entry: &Watched, without: &str) -> bool {
        let is_unused = entry.drop_pod(without);
        if is_unused {
            self.factory.forget(entry.cache.request());
        }
        !is_unused
    }

    /// Forgets what is remembered of objects that none of the node's pods refers to: a pod that went while nobody watched left it.
    pub(crate) fn forget_all_but(&self, pods: &[Pod]) {
        let Some(memory) = self.factory.memory() else {
            return;
        };
        let wanted: BTreeSet<ListRequest> = pods.iter().flat_map(keys_of).map(selection).collect();
        for kind in [Kind::ConfigMap, Kind::Secret] {
            for request in memory.selections(&kind.resource()) {
                if !wanted.contains(&request) {
                    self.factory.forget(&request);
                }
            }
        }
    }

    fn watch(&self, key: &Key) -> Watched {
        let cache = self.factory.cache(selection(key.clone()));
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

    /// An object that is read, not watched: a node may get claims and volumes, and not list them. While no server answers it
    /// is what it was.
    async fn get<T>(&self, namespace: &str, name: &str) -> Result<Option<T>, String>
    where
        T: kube_client::Kind + DeserializeOwned + Serialize,
    {
        let kind = resource_of::<T>().resource.to_string();
        let kind = kind.as_str();
        if !self.factory.hears_a_server()
            && let Some(known) = self.last_known.object(kind, namespace, name).await
        {
            return Ok(known);
        }
        let asked = self.client.api::<T>(namespace).get_optional(name).await;
        match asked {
            Ok(found) => {
                self.last_known
                    .keep_object((kind, namespace, name), found.as_ref());
                Ok(found)
            }
            Err(error) if is_silence(&error) => {
                let known = self.last_known.object(kind, namespace, name).await;
                known.ok_or_else(|| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
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
            source: TokenSource::Fresh,
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

/// How one object is watched.
fn selection((kind, key): Key) -> ListRequest {
    ListRequest {
        namespace: Some(key.namespace),
        ..selected(kind.resource(), "metadata.name", &key.name)
    }
}

fn keys_of(pod: &Pod) -> BTreeSet<Key> {
    let pull_secrets = spec(pod).image_pull_secrets.iter().flatten();
    let mut names: BTreeSet<(Kind, String)> = pull_secrets
        .map(|reference| (Kind::Secret, reference.name.clone()))
        .collect();
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
        self.get(namespace, name).await
    }

    async fn persistent_volume(&self, name: &str) -> Result<Option<PersistentVolume>, String> {
        self.get("", name).await
    }

    async fn token(&self, request: &TokenRequest) -> Result<Token, String> {
        if !self.factory.hears_a_server()
            && let Some(known) = self.last_known.token(request).await
        {
            return Ok(known);
        }
        match self.request_token(request).await {
            Ok(token) => {
                self.last_known.keep_token(request, &token);
                Ok(token)
            }
            Err(error) if is_silence(&error) => {
                let known = self.last_known.token(request).await;
                known.ok_or_else(|| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
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
