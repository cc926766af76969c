//! The volumes of all pods of this node.
//!
//! Everything of a pod lies below `<kubelet root>/pods/<uid>`: `volumes/<plugin>/<name>` and `volume-subpaths/<container>/<index>`. What is mounted
//! there is asked from the kernel, so a restarted kubelet takes down what another began.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::ImageService;
use env::{Clock, Rng};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};
use linux::mounts;
use parking_lot::Mutex;

use crate::error::{Error, Result, blocking};
use crate::objects::Objects;
use crate::plugin::{MountedVolume, PLUGINS, Request, VolumePlugin};
use crate::sub_path;
use crate::tokens::TokenCache;

/// What every kind of volume may use.
pub(crate) struct Shared {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) images: Arc<dyn ImageService>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) tokens: TokenCache,
}

/// Makes and removes the volumes of pods. Every call may be repeated; calls for one pod take turns.
pub struct NodeVolumes {
    pods: PathBuf,
    shared: Shared,
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl NodeVolumes {
    /// Volumes below `<kubelet_root>/pods`, which is made if missing.
    pub fn open(
        kubelet_root: &Path,
        objects: Arc<dyn Objects>,
        images: Arc<dyn ImageService>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self> {
        let pods = kubelet_root.join("pods");
        fs::create_dir_all(&pods).map_err(Error::io("make directory", &pods))?;
        // The kernel's list of mounts knows no symbolic links.
        let pods = fs::canonicalize(&pods).map_err(Error::io("find", &pods))?;
        let shared = Shared {
            objects,
            images,
            clock,
            rng,
            tokens: TokenCache::default(),
        };
        Ok(Self {
            pods,
            shared,
            turns: Mutex::new(BTreeMap::new()),
        })
    }

    /// Makes every volume that a container of the pod mounts ready, and brings changed contents up to date.
    pub async fn set_up(&self, pod: &Pod) -> Result<BTreeMap<String, MountedVolume>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let pod_directory = self.pod_directory(uid)?;
        let turn = self.turn(uid);
        let _turn = turn.lock().await;
        let mut mounted = BTreeMap::new();
        let Some(spec) = &pod.spec else {
            return Ok(mounted);
        };
        let used = used_volumes(spec);
        for volume in spec
            .volumes
            .iter()
            .flatten()
            .filter(|volume| used.contains(volume.name.as_str()))
        {
            let ready = self.set_up_volume(pod, volume, &pod_directory).await;
            let ready = ready.map_err(|error| Error::SetUp {
                volume: volume.name.clone(),
                source: Box::new(error),
            })?;
            mounted.insert(volume.name.clone(), ready);
        }
        Ok(mounted)
    }

    async fn set_up_volume(
        &self,
        pod: &Pod,
        volume: &Volume,
        pod_directory: &Path,
    ) -> Result<MountedVolume> {
        let plugin: &dyn VolumePlugin = *PLUGINS
            .iter()
            .find(|plugin| plugin.takes(volume))
            .expect("the last plugin of the table takes every volume");
        if !is_file_name(&volume.name) {
            return Err(Error::Invalid(format!(
                "{:?} is not a name of a volume",
                volume.name
            )));
        }
        let parent = pod_directory.join("volumes").join(plugin.name());
        fs::create_dir_all(&parent).map_err(Error::io("make directory", &parent))?;
        let request = Request {
            shared: &self.shared,
            pod,
            volume,
            directory: parent.join(&volume.name),
            facts: self.shared.objects.facts(pod).await,
        };
        plugin.set_up(&request).await
    }

    /// The host path of a part of a volume for one mount of a container, made if missing; it never leaves the volume, and stays the same file or
    /// directory while the volume's content is exchanged, until it is asked for again.
    pub async fn sub_path(
        &self,
        pod_uid: &str,
        container: &str,
        mount_index: usize,
        volume: &MountedVolume,
        sub_path: &Path,
    ) -> Result<PathBuf> {
        let pod_directory = self.pod_directory(pod_uid)?;
        if !is_file_name(container) {
            return Err(Error::Invalid(format!(
                "{container:?} is not a name of a container"
            )));
        }
        let turn = self.turn(pod_uid);
        let _turn = turn.lock().await;
        let target = pod_directory
            .join("volume-subpaths")
            .join(container)
            .join(mount_index.to_string());
        let (volume, sub_path, bound) = (
            volume.host_path.clone(),
            sub_path.to_path_buf(),
            target.clone(),
        );
        blocking(move || sub_path::bind(&volume, &sub_path, &bound)).await?;
        Ok(target)
    }

    /// When the pod's volumes want to be set up again although no object changed: a token grows old. On the monotonic clock.
    pub fn next_refresh(&self, pod_uid: &str) -> Option<Duration> {
        self.shared.tokens.next_refresh(pod_uid)
    }

    /// Every token is old: the clock was set, here or where they come from.
    pub fn outdate_tokens(&self) {
        self.shared.tokens.outdate();
    }

    /// Unmounts and removes everything of a pod. Succeeds when there is nothing.
    pub async fn tear_down(&self, pod_uid: &str) -> Result<()> {
        let pod_directory = self.pod_directory(pod_uid)?;
        let turn = self.turn(pod_uid);
        {
            let _turn = turn.lock().await;
            self.unmount_images(&pod_directory).await?;
            blocking(move || remove_pod(&pod_directory)).await?;
            self.shared.tokens.forget(pod_uid);
        }
        let mut turns = self.turns.lock();
        // The map and this call hold it: nobody else waits.
        if Arc::strong_count(&turn) <= 2 {
            turns.remove(pod_uid);
        }
        Ok(())
    }

    /// The image store counts who uses its layers, so it takes its mounts back itself.
    async fn unmount_images(&self, pod_directory: &Path) -> Result<()> {
        let parent = pod_directory
            .join("volumes")
            .join(VolumePlugin::name(&crate::image::Image));
        let entries = match fs::read_dir(&parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("list", &parent)(error)),
        };
        for entry in entries.flatten() {
            // Parts of the volume that containers saw hold nothing here: they are mounts of their own.
            let released = self.shared.images.unmount_image(&entry.path()).await;
            released.map_err(|error| Error::Source(error.to_string()))?;
        }
        Ok(())
    }

    /// UIDs of pods that have something on the node.
    pub fn existing(&self) -> Result<Vec<String>> {
        let mut uids = Vec::new();
        for entry in fs::read_dir(&self.pods).map_err(Error::io("list", &self.pods))? {
            let entry = entry.map_err(Error::io("list", &self.pods))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                uids.extend(entry.file_name().into_string());
            }
        }
        uids.sort();
        Ok(uids)
    }

    /// The volume directories of a pod by plugin and name, for whoever measures what they use.
    pub fn volume_directories(&self, pod_uid: &str) -> Result<Vec<PathBuf>> {
        let volumes = self.pod_directory(pod_uid)?.join("volumes");
        let list = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect()
        };
        let mut directories: Vec<PathBuf> = list(&volumes)
            .iter()
            .flat_map(|plugin| list(plugin))
            .collect();
        directories.sort();
        Ok(directories)
    }

    fn pod_directory(&self, uid: &str) -> Result<PathBuf> {
        if is_file_name(uid) {
            Ok(self.pods.join(uid))
        } else {
            Err(Error::Invalid(format!("{uid:?} is not the uid of a pod")))
        }
    }

    fn turn(&self, uid: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.turns.lock().entry(uid.to_owned()).or_default())
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Volumes that some container mounts; the others are nobody's business.
fn used_volumes(spec: &PodSpec) -> BTreeSet<&str> {
    let of_containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|container| &container.volume_mounts);
    let of_ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| &container.volume_mounts);
    of_containers
        .chain(of_ephemeral)
        .flatten()
        .flatten()
        .map(|mount| mount.name.as_str())
        .collect()
}

/// Nothing is removed before nothing is mounted any more: behind a mount may lie what outlives the pod.
fn remove_pod(pod_directory: &Path) -> Result<()> {
    if !pod_directory.exists() {
        return Ok(());
    }
    mounts::unmount_below(pod_directory)?;
    if let Some(left) = mounts::table()?
        .iter()
        .find(|entry| entry.mount_point.starts_with(pod_directory))
    {
        return Err(Error::Invalid(format!(
            "{} is still mounted",
            left.mount_point.display()
        )));
    }
    match fs::remove_dir_all(pod_directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", pod_directory)(error))
        }
        _ => Ok(()),
    }
}
