//! A kind of volume, and the table of them.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume};
use semantics::downward_api::NodeFacts;

use crate::error::{Error, Result, blocking};
use crate::node_volumes::Shared;
use crate::ownership::{self, Access, ChangePolicy};
use crate::payload::{Payload, checked};
use crate::{atomic_writer, nested};

/// A volume of a pod as it lies on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountedVolume {
    /// A directory, or a file for a `hostPath` of one.
    pub host_path: PathBuf,
    /// Read-only by its nature (config maps, secrets, images).
    pub read_only: bool,
    /// Ids of files are mapped through the pod's user namespace.
    pub idmap: bool,
}

/// One kind of volume. `set_up` may be called again and again: what is there is kept and brought up to date.
/// Taking down needs no kind: all that a kind makes lies below the pod's directory, and its mounts are the kernel's to tell.
#[async_trait]
pub(crate) trait VolumePlugin: Sync {
    /// As in the pod's directory: `kubernetes.io~empty-dir`.
    fn name(&self) -> &'static str;

    /// Whether the volume is of this kind.
    fn takes(&self, volume: &Volume) -> bool;

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume>;
}

/// Every kind. What no row takes is refused by the last.
pub(crate) const PLUGINS: &[&dyn VolumePlugin] = &[
    &crate::empty_dir::EmptyDir,
    &crate::host_path::HostPath,
    &crate::config_map::ConfigMap,
    &crate::secret::Secret,
    &crate::downward_api::DownwardApi,
    &crate::projected::Projected,
    &crate::image::Image,
    &crate::persistent_volume_claim::PersistentVolumeClaim,
    &crate::unsupported::Unsupported,
];

/// One volume to set up.
pub(crate) struct Request<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) pod: &'a Pod,
    pub(crate) volume: &'a Volume,
    /// Where the volume may lie: `…/pods/<uid>/volumes/<plugin>/<name>`. Its parent is there.
    pub(crate) directory: PathBuf,
    pub(crate) facts: NodeFacts,
}

impl Request<'_> {
    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn fs_group(&self) -> Option<u32> {
        let context = self.pod.spec.as_ref()?.security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok()
    }

    pub(crate) fn change_policy(&self) -> ChangePolicy {
        let context = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.as_ref());
        match context.and_then(|context| context.fs_group_change_policy.as_deref()) {
            Some("OnRootMismatch") => ChangePolicy::OnRootMismatch,
            _ => ChangePolicy::Always,
        }
    }

    /// The one user of all containers of the pod, if they have one and say so.
    pub(crate) fn only_user(&self) -> Option<u32> {
        let spec = self.pod.spec.as_ref()?;
        let of_pod = spec
            .security_context
            .as_ref()
            .and_then(|context| context.run_as_user);
        let mut users = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .map(|container| {
                container
                    .security_context
                    .as_ref()
                    .and_then(|context| context.run_as_user)
                    .or(of_pod)
            });
        let first = users.next()??;
        if users.all(|user| user == Some(first)) {
            u32::try_from(first).ok()
        } else {
            None
        }
    }

    /// Writes a volume of objects, whose directory was made by `make`.
    pub(crate) async fn write_payload(
        &self,
        payload: Payload,
        make: impl FnOnce(&Path) -> Result<()> + Send + 'static,
    ) -> Result<MountedVolume> {
        let payload = checked(payload)?;
        let directory = self.directory.clone();
        let nested = nested::mount_points(self.pod, &self.volume.name);
        let fs_group = self.fs_group();
        let (clock, rng) = (self.shared.clock.clone(), self.shared.rng.clone());
        blocking(move || {
            make(&directory)?;
            for path in nested {
                let path = directory.join(path);
                std::fs::create_dir_all(&path).map_err(Error::io("make directory", &path))?;
            }
            let own = |_new: &Path| match fs_group {
                // Not only the new directory: links and the volume itself may be new as well.
                Some(group) => ownership::give_to_group(
                    &directory,
                    group,
                    Access::ReadOnly,
                    ChangePolicy::Always,
                ),
                None => Ok(()),
            };
            atomic_writer::write(&directory, &payload, clock.as_ref(), rng.as_ref(), own)?;
            Ok(MountedVolume {
                host_path: directory,
                read_only: true,
                idmap: true,
            })
        })
        .await
    }
}
