//! Follows the folder: a file that comes runs, one that goes ends, one that changes is replaced once its old pod has ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ObjectKey, StoredObject};
use env::Shutdown;
use linux::inotify::Watches;
use tokio::io::unix::AsyncFd;

use crate::admission::node_key;
use crate::kubelet::Kubelet;
use crate::pods::{Origin, Wanted};
use crate::static_pods::Mirrors;
use crate::static_pods::manifest::{is_manifest, read};

/// A folder that cannot be read, or an API that does not answer, is asked again after this time.
const RETRY: Duration = Duration::from_secs(5);
/// Changes that come together are read together.
const SETTLE: Duration = Duration::from_millis(50);

pub(crate) struct StaticPods {
    pub(crate) kubelet: Kubelet,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) shutdown: Shutdown,
}

impl StaticPods {
    /// Runs until its caller ends it.
    pub(crate) async fn run(self, folder: &Path) {
        // Pods of the same names, by key: what the folder says now.
        let mut wanted: BTreeMap<ObjectKey, StoredObject> = BTreeMap::new();
        let watches = loop {
            match watch(folder) {
                Ok(watches) => break watches,
                Err(error) => {
                    tracing::warn!(%error, folder = %folder.display(), "the folder of static pods is not watched yet");
                    env::sleep(RETRY).await;
                }
            }
        };
        loop {
            self.read_folder(folder, &mut wanted);
            let settled = self.apply(&wanted);
            let mirrored = self.mirror(&wanted).await;
            let retry = async {
                if mirrored {
                    std::future::pending::<()>().await;
                } else {
                    env::sleep(RETRY).await;
                }
            };
            tokio::select! {
                biased;
                ready = watches.readable() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    env::sleep(SETTLE).await;
                    if let Err(error) = watches.get_ref().take() {
                        tracing::warn!(%error, "changes of the folder of static pods are not told");
                    }
                }
                () = self.mirrors.changed() => {}
                () = self.kubelet.services.pods_table.removed(), if !settled => {}
                () = retry => {}
            }
        }
    }

    /// A file that cannot be read leaves its last good pod in place.
    fn read_folder(&self, folder: &Path, wanted: &mut BTreeMap<ObjectKey, StoredObject>) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        let mut paths: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_manifest(path))
            .collect();
        paths.sort();
        let services = &self.kubelet.services;
        let mut found = BTreeMap::new();
        let mut is_whole = true;
        for path in paths {
            match read(&path, &services.config.node_name, services.clock.now()) {
                Ok(object) => {
                    let known = wanted
                        .get(object.key())
                        .filter(|known| known.index.uid == object.index.uid)
                        .cloned();
                    found
                        .entry(object.key().clone())
                        .or_insert(known.unwrap_or(object));
                }
                Err(error) => {
                    is_whole = false;
                    tracing::warn!(%error, file = %path.display(), "a static pod is not run");
                }
            }
        }
        if is_whole {
            *wanted = found;
        } else {
            wanted.extend(found);
        }
    }

    /// Starts and ends pods; false while a replaced pod still holds up its successor.
    fn apply(&self, wanted: &BTreeMap<ObjectKey, StoredObject>) -> bool {
        let table = &self.kubelet.services.pods_table;
        let running: Vec<Wanted> = table
            .all()
            .iter()
            .map(|handle| handle.inputs.wanted())
            .filter(|wanted| wanted.origin == Origin::Manifest)
            .collect();
        for known in &running {
            let is_current = wanted
                .get(known.object.key())
                .is_some_and(|object| object.index.uid == known.object.index.uid);
            if !is_current && let Some(handle) = table.get(&known.object.index.uid) {
                handle.inputs.set_gone();
            }
        }
        let mut settled = true;
        for object in wanted.values() {
            let is_held = running.iter().any(|known| {
                known.object.key() == object.key() && known.object.index.uid != object.index.uid
            });
            if is_held {
                settled = false;
                continue;
            }
            let mirror = self.mirrors.of(object);
            let is_known = running.iter().any(|known| {
                let revision = |object: &Option<StoredObject>| {
                    object
                        .as_ref()
                        .map(|object| (object.index.uid.clone(), object.revision))
                };
                known.object.index.uid == object.index.uid
                    && revision(&known.mirror) == revision(&mirror)
            });
            if !is_known {
                self.kubelet.want(
                    Wanted {
                        object: object.clone(),
                        origin: Origin::Manifest,
                        mirror,
                    },
                    &self.shutdown,
                );
            }
        }
        settled
    }

    async fn mirror(&self, wanted: &BTreeMap<ObjectKey, StoredObject>) -> bool {
        // Before the API told what it has, nothing is known to be missing.
        if !self.kubelet.is_told() {
            return false;
        }
        let pods: Vec<StoredObject> = wanted.values().cloned().collect();
        let node_name = &self.kubelet.services.config.node_name;
        let node = self
            .kubelet
            .node
            .get(&node_key(node_name))
            .map(|node| node.index.uid.clone())
            .unwrap_or_default();
        match self
            .mirrors
            .reconcile(&pods, &self.kubelet.services, &node)
            .await
        {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "the mirrors of static pods are not current");
                false
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the watches own their descriptor and keep it while they live; the other constructor is unsafe"
)]
fn watch(folder: &Path) -> std::io::Result<AsyncFd<Watches>> {
    let watches = Watches::new().map_err(std::io::Error::other)?;
    watches
        .watch_directory(folder)
        .map_err(std::io::Error::other)?;
    AsyncFd::new(watches)
}
