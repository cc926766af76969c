//! The image store as the kubelet sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cri::{
    ContainerId, FilesystemUsage, Image, ImageFilesystems, ImageId, ImageService, ImageSpec,
    PullAuth, RootFs,
};
use parking_lot::Mutex;

use crate::arrivals::Arrivals;
use crate::error::{Error, ErrorKind, Result};
use crate::peers::Peers;
use crate::pull::{PullSettings, blocking, pull_also_from};
use crate::reference::Reference;
use crate::store::ImageStore;

/// Pulls take turns per reference: the second finds the content of the first and only asks the registry whether it may have it.
#[derive(Debug)]
pub struct LocalImageService {
    store: Arc<ImageStore>,
    settings: arc_swap::ArcSwap<PullSettings>,
    /// Nodes that are asked before registries.
    peers: Option<Arc<dyn Peers>>,
    pulling: Mutex<BTreeMap<Reference, Arc<tokio::sync::Mutex<()>>>>,
    /// What archives will bring.
    pub(crate) arrivals: Arc<Arrivals>,
}

impl LocalImageService {
    pub fn new(store: Arc<ImageStore>, settings: PullSettings) -> Self {
        Self {
            store,
            settings: arc_swap::ArcSwap::from_pointee(settings),
            peers: None,
            pulling: Mutex::new(BTreeMap::new()),
            arrivals: Arc::default(),
        }
    }

    /// Asks these nodes first, for images of registries that have mirrors.
    #[must_use]
    pub fn with_peers(self, peers: Arc<dyn Peers>) -> Self {
        Self {
            peers: Some(peers),
            ..self
        }
    }

    pub fn store(&self) -> &Arc<ImageStore> {
        &self.store
    }

    /// Takes another `registries.yaml` from the next pull on.
    pub(crate) fn pull_settings(&self) -> Arc<PullSettings> {
        self.settings.load_full()
    }

    pub fn set_pull_settings(&self, settings: PullSettings) {
        self.settings.store(Arc::new(settings));
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImageStore) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, cri::Error> {
        let store = Arc::clone(&self.store);
        blocking(move || work(&store)).await.map_err(in_cri_words)
    }

    /// An image that is not here but comes with an archive: only who needs it waits, and only for what may have it.
    async fn arrives_with_archive(&self, reference: &Reference) -> Result<Option<ImageId>> {
        let name = reference.to_string();
        if self.store.status(&name)?.is_some() {
            return Ok(None);
        }
        let mut wanted = self.arrivals.want(reference);
        while wanted.may_come() {
            wanted.changed().await;
            if let Some(image) = self.store.status(&name)? {
                return Ok(Some(image.id));
            }
        }
        Ok(None)
    }

    pub(crate) async fn pull_in_turn(
        &self,
        reference: &Reference,
        auth: Option<&PullAuth>,
    ) -> Result<ImageId> {
        let turn = Arc::clone(self.pulling.lock().entry(reference.clone()).or_default());
        let pulled = {
            let _turn = turn.lock().await;
            let (peers, settings) = (self.peers.as_deref(), self.settings.load_full());
            pull_also_from(&self.store, peers, &settings, reference, auth).await
        };
        let mut pulling = self.pulling.lock();
        // The map and this call hold it: nobody else waits.
        if Arc::strong_count(&turn) <= 2 {
            pulling.remove(reference);
        }
        pulled
    }
}

#[async_trait]
impl ImageService for LocalImageService {
    async fn pull_image(&self, image: &ImageSpec, auth: Option<&PullAuth>) -> cri::Result<ImageId> {
        let reference = Reference::parse(&image.reference).map_err(in_cri_words)?;
        if let Some(id) = self
            .arrives_with_archive(&reference)
            .await
            .map_err(in_cri_words)?
        {
            return Ok(id);
        }
        self.pull_in_turn(&reference, auth).await.map_err(|error| {
            let text = || {
                format!(
                    "failed to pull and unpack image \"{reference}\": {}",
                    error.chain()
                )
            };
            match error.kind() {
                ErrorKind::Other => in_cri_words(error),
                ErrorKind::Network => cri::Error::RegistryUnavailable(text()),
                _ => cri::Error::ImagePull(text()),
            }
        })
    }

    async fn image_status(&self, reference: &str) -> cri::Result<Option<Image>> {
        let reference = reference.to_owned();
        self.run(move |store| store.status(&reference)).await
    }

    async fn list_images(&self) -> cri::Result<Vec<Image>> {
        self.run(ImageStore::list).await
    }

    async fn remove_image(&self, image: &ImageId) -> cri::Result<()> {
        let name = image.0.clone();
        self.run(move |store| store.remove(&name)).await
    }

    async fn fs_info(&self) -> cri::Result<ImageFilesystems> {
        self.run(ImageStore::fs_info).await
    }

    async fn prepare_rootfs(
        &self,
        image: &ImageId,
        container: &ContainerId,
    ) -> cri::Result<RootFs> {
        let (image, container) = (image.0.clone(), container.to_string());
        self.run(move |store| store.prepare_rootfs(&image, &container))
            .await
    }

    async fn remove_rootfs(&self, container: &ContainerId) -> cri::Result<()> {
        let container = container.to_string();
        self.run(move |store| store.remove_rootfs(&container)).await
    }

    async fn rootfs_usage(&self, container: &ContainerId) -> cri::Result<FilesystemUsage> {
        let container = container.to_string();
        self.run(move |store| store.rootfs_usage(&container)).await
    }

    async fn mount_image(&self, image: &ImageId, target: &Path) -> cri::Result<()> {
        let (image, target) = (image.0.clone(), target.to_path_buf());
        self.run(move |store| store.mount_volume(&image, &target))
            .await
    }

    async fn unmount_image(&self, target: &Path) -> cri::Result<()> {
        let target = target.to_path_buf();
        self.run(move |store| store.unmount_volume(&target)).await
    }
}

pub(crate) fn in_cri_words(error: Error) -> cri::Error {
    match error {
        Error::Reference { name, reason } => cri::Error::InvalidImageName {
            reference: name,
            message: format!("invalid reference format: {reason}"),
        },
        Error::ImageNotFound { name } => cri::Error::ImageNotFound(ImageId(name)),
        Error::Refused { ref diff_id, .. } => cri::Error::ImageInspect {
            image: diff_id.to_string(),
            message: error.chain(),
        },
        error => cri::Error::Internal(error.chain()),
    }
}
