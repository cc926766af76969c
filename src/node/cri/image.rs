//! Images and the root filesystems made of them.

use crate::{ContainerId, Error, Result};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// Pulls images, keeps them, and makes root filesystems of them.
#[async_trait]
pub trait ImageService: Send + Sync {
    /// Pulls an image and returns its id. Several calls for one reference at a time share one pull.
    async fn pull_image(&self, image: &ImageSpec, auth: Option<&PullAuth>) -> Result<ImageId>;
    /// The image a reference, digest reference or id names; `None` when it is not in the store.
    async fn image_status(&self, reference: &str) -> Result<Option<Image>>;
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// Removes the image; succeeds when it is not there. Layers that a container uses stay until it is removed.
    async fn remove_image(&self, image: &ImageId) -> Result<()>;
    async fn fs_info(&self) -> Result<ImageFilesystems>;
    /// Mounts a writable root filesystem for a container. Idempotent per container.
    async fn prepare_rootfs(&self, image: &ImageId, container: &ContainerId) -> Result<RootFs>;
    /// As [`ImageService::prepare_rootfs`], with ids of files mapped through a user namespace (its layers mounted
    /// id-mapped). `Unsupported`, the default, lets the runtime map the root filesystem as a whole.
    async fn prepare_mapped_rootfs(
        &self,
        _image: &ImageId,
        _container: &ContainerId,
        _user_namespace: BorrowedFd<'_>,
    ) -> Result<RootFs> {
        Err(Error::Unsupported(
            "an id-mapped root filesystem".to_owned(),
        ))
    }
    /// Unmounts and removes the writable layer. Succeeds when there is none.
    async fn remove_rootfs(&self, container: &ContainerId) -> Result<()>;
    /// Bytes and inodes of the container's writable layer.
    async fn rootfs_usage(&self, container: &ContainerId) -> Result<FilesystemUsage>;
    /// Mounts an image read-only at an existing directory. Idempotent per directory.
    async fn mount_image(&self, _image: &ImageId, _target: &Path) -> Result<()> {
        Err(crate::Error::Unsupported("an image as a volume".to_owned()))
    }
    /// Undoes `mount_image`. Succeeds when nothing is mounted.
    async fn unmount_image(&self, _target: &Path) -> Result<()> {
        Ok(())
    }
}

/// The id of an image: the digest of its configuration, `sha256:<hex>`.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct ImageId(pub String);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to pull, as the pod names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSpec {
    /// For example `busybox`, `registry.example/a/b:tag`, `a@sha256:…`; not yet normalised.
    pub reference: String,
    pub annotations: BTreeMap<String, String>,
}

/// Credentials for one registry, as in `.dockerconfigjson`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PullAuth {
    pub username: String,
    pub password: String,
    pub identity_token: String,
    pub registry_token: String,
}

impl fmt::Debug for PullAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullAuth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    /// Normalised `name:tag` references.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…` references; what `status.containerStatuses[].imageID` shows.
    pub repo_digests: Vec<String>,
    pub size_bytes: u64,
    pub config: ImageConfig,
    /// Pinned images are never garbage.
    pub pinned: bool,
}

/// What the image says about how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// `user[:group]`, each a name or a number; empty for root.
    pub user: String,
    pub working_dir: String,
    /// A name or a number; empty for SIGTERM.
    pub stop_signal: String,
    pub labels: BTreeMap<String, String>,
    /// Paths the image declares as volumes.
    pub volumes: Vec<String>,
}

/// A root filesystem ready to run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// A mounted directory, writable.
    pub path: PathBuf,
    pub config: ImageConfig,
}

/// Where images and writable layers lie, and how full it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFilesystems {
    pub images: FilesystemUsage,
    pub containers: FilesystemUsage,
}

/// What a directory uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesystemUsage {
    pub mountpoint: PathBuf,
    pub used_bytes: u64,
    pub inodes_used: u64,
}
