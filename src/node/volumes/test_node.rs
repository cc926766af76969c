//! A node for the tests: an API in memory, a store of images, and volumes on the real file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apimachinery::Quantity;
use async_trait::async_trait;
use cri::ImageId;
use env::{Clock, ManualClock, SeededRng, Timestamp};
use images::{ImageStore, LocalImageService, PullSettings};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use parking_lot::Mutex;
use semantics::downward_api::NodeFacts;
use serde_json::Value;

use crate::{MountedVolume, NodeVolumes, Objects, Token, TokenRequest, TokenSource};

/// An API that holds objects by `kind/name`, and counts the tokens it gives.
pub(crate) struct Api {
    objects: Mutex<BTreeMap<String, Value>>,
    tokens: Mutex<u32>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Api {
    pub(crate) fn put(&self, key: &str, object: Value) {
        self.objects.lock().insert(key.to_owned(), object);
    }

    fn get<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
    ) -> Result<Option<T>, String> {
        let object = self.objects.lock().get(&format!("{kind}/{name}")).cloned();
        Ok(object.map(|object| serde_json::from_value(object).unwrap()))
    }
}

#[async_trait]
impl Objects for Api {
    async fn config_map(&self, _namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        self.get("configmap", name)
    }

    async fn secret(&self, _namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        self.get("secret", name)
    }

    async fn persistent_volume_claim(
        &self,
        _namespace: &str,
        name: &str,
    ) -> Result<Option<PersistentVolumeClaim>, String> {
        self.get("pvc", name)
    }

    async fn persistent_volume(&self, name: &str) -> Result<Option<PersistentVolume>, String> {
        self.get("pv", name)
    }

    async fn token(&self, request: &TokenRequest) -> Result<Token, String> {
        let mut count = self.tokens.lock();
        *count += 1;
        let expires = self.clock.now().saturating_add(Duration::from_secs(
            request.expiration_seconds.unsigned_abs(),
        ));
        let audience = request.audience.as_deref().unwrap_or("api");
        Ok(Token {
            token: format!("{audience}-{count}"),
            expires,
            source: TokenSource::Fresh,
        })
    }

    async fn image(
        &self,
        _pod: &Pod,
        reference: &str,
        _pull_policy: Option<&str>,
    ) -> Result<ImageId, String> {
        let image = self
            .objects
            .lock()
            .get(&format!("image/{reference}"))
            .cloned();
        image
            .and_then(|id| id.as_str().map(|id| ImageId(id.to_owned())))
            .ok_or_else(|| format!("image {reference} not found"))
    }

    async fn facts(&self, _pod: &Pod) -> NodeFacts {
        let allocatable = [
            ("cpu".to_owned(), Quantity::from_units(4)),
            ("memory".to_owned(), Quantity::from_bytes(1 << 30)),
        ];
        NodeFacts {
            allocatable: allocatable.into(),
            ..NodeFacts::default()
        }
    }
}

pub(crate) struct Node {
    _directory: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) api: Arc<Api>,
    pub(crate) store: Arc<ImageStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) volumes: NodeVolumes,
}

impl Node {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let clock = ManualClock::at(Timestamp::from_unix_seconds(1_700_000_000));
        let api = Arc::new(Api {
            objects: Mutex::default(),
            tokens: Mutex::new(0),
            clock: Arc::clone(&clock),
        });
        let store = Arc::new(ImageStore::open(&root.join("agent")).unwrap());
        let volumes = Self::open(&root, &api, &store, &clock);
        Self {
            _directory: directory,
            root,
            api,
            store,
            clock,
            volumes,
        }
    }

    pub(crate) fn open(
        root: &Path,
        api: &Arc<Api>,
        store: &Arc<ImageStore>,
        clock: &Arc<ManualClock>,
    ) -> NodeVolumes {
        let images = Arc::new(LocalImageService::new(
            Arc::clone(store),
            PullSettings::default(),
        ));
        let api: Arc<dyn Objects> = Arc::<Api>::clone(api);
        NodeVolumes::open(
            root,
            api,
            images,
            Arc::<ManualClock>::clone(clock),
            SeededRng::shared(1),
        )
        .unwrap()
    }

    /// Sets up the one volume `v` of a pod.
    pub(crate) async fn volume(&self, source: Value) -> crate::Result<MountedVolume> {
        self.volume_of(&crate::tests::pod(source)).await
    }

    pub(crate) async fn volume_of(&self, pod: &Pod) -> crate::Result<MountedVolume> {
        Ok(self.volumes.set_up(pod).await?.remove("v").unwrap())
    }

    /// Nothing is left of the pod, on disk and in the kernel.
    pub(crate) async fn assert_torn_down(&self) {
        self.volumes.tear_down("uid-1").await.unwrap();
        self.volumes.tear_down("uid-1").await.unwrap();
        assert!(self.volumes.existing().unwrap().is_empty());
        let pods = self.root.join("pods");
        assert!(
            linux::mounts::table()
                .unwrap()
                .iter()
                .all(|entry| !entry.mount_point.starts_with(&pods))
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        linux::mounts::unmount_below(&self.root).unwrap();
    }
}
