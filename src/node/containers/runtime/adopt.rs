//! What a runtime finds when it opens: pods that go on, pods that ended meanwhile, and leftovers to remove.

use super::shim_client::ShimConnection;
use super::state::{ContainerEntry, ContainerRecord, Phase, SandboxEntry, SandboxRecord};
use super::{Inner, Runtime, containers, create, sandboxes};
use crate::error::{Error, internal};
use crate::layout::SandboxDir;
use crate::shim::protocol::{Answer, ContainerView, Request};
use linux::mounts;
use linux::namespaces::NamespaceKind;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Takes over every sandbox on disk, then removes cgroups and addresses that belong to none.
pub(super) async fn adopt(inner: &Arc<Inner>) -> Result<(), Error> {
    let boot_id = linux::process::boot_id()?;
    for path in subdirectories(&inner.layout.sandboxes()) {
        let dir = SandboxDir::at(path);
        match read_record::<SandboxRecord>(&dir.record()) {
            Some(record) if record.boot_id == boot_id => adopt_sandbox(inner, dir, record).await,
            // Without a readable record nobody knows what it was; of another boot nothing is left but files.
            _ => remove_leftover(inner, &dir).await,
        }
    }
    remove_unknown_groups(inner).await;
    detach_unknown_pods(inner).await;
    // Plugins take their time, and nothing waits for what they say.
    env::spawn(check_networks(Arc::clone(inner)));
    Ok(())
}

async fn adopt_sandbox(inner: &Arc<Inner>, dir: SandboxDir, record: SandboxRecord) {
    let ready = sandboxes::read_ready(&dir).filter(|_| !record.is_stopped);
    let ready = ready.filter(|ready| matches!(ready.identity().open(), Ok(Some(_))));
    let views = match &ready {
        Some(_) => views(&dir).await,
        None => None,
    };
    let id = record.id.clone();
    let is_stopped = record.is_stopped;
    let entry = SandboxEntry {
        record,
        dir,
        ready: ready.filter(|_| views.is_some()),
        turn: SandboxEntry::held(),
    };
    let is_alive = entry.ready.is_some();
    let containers = read_containers(&entry.dir);
    inner.state().sandboxes.insert(id.clone(), entry);
    for container in containers {
        let view = views
            .as_ref()
            .and_then(|views| views.get(&container.record.id.0));
        adopt_container(inner, container, view);
    }
    if is_alive {
        sandboxes::listen(inner, &id);
    } else if !is_stopped {
        sandboxes::lose(inner, &id).await;
    }
}

/// What the shim says of its containers; `None` when it does not answer.
async fn views(dir: &SandboxDir) -> Option<BTreeMap<String, ContainerView>> {
    let mut connection = ShimConnection::connect(dir).ok()?;
    match connection.call(&Request::Watch, &[]).await {
        Ok(Ok(Answer::Containers { containers })) => Some(containers),
        _ => None,
    }
}

fn adopt_container(inner: &Inner, entry: ContainerEntry, view: Option<&ContainerView>) {
    let recorded = containers::recorded_exit(&entry);
    let phase = match (recorded, view) {
        (Some(exit), _) => Phase::Exited(exit),
        (
            None,
            Some(ContainerView {
                exit: Some(exit), ..
            }),
        ) => Phase::Exited(exit.clone()),
        (
            None,
            Some(ContainerView {
                pid,
                started_at,
                exit: None,
            }),
        ) => Phase::Running {
            pid: *pid,
            started_at: *started_at,
        },
        (None, None) => Phase::Created,
    };
    entry.phase.send_replace(phase);
    inner
        .state()
        .containers
        .insert(entry.record.id.clone(), entry);
}

fn read_containers(dir: &SandboxDir) -> Vec<ContainerEntry> {
    let mut out = Vec::new();
    for path in subdirectories(&dir.containers()) {
        let Some(name) = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
        else {
            continue;
        };
        let container = dir.container(&cri::ContainerId(name));
        match read_record::<ContainerRecord>(&container.record()) {
            Some(record) => out.push(ContainerEntry::new(record, container)),
            // The server died while it prepared this one.
            None => {
                if let Err(error) = create::remove_bundle(&container) {
                    tracing::warn!(path = %path.display(), %error, "a half-made container stays");
                }
            }
        }
    }
    out
}

/// A sandbox that cannot be taken over: its shim is ended if it is one, its mounts and files go.
async fn remove_leftover(inner: &Arc<Inner>, dir: &SandboxDir) {
    let (inner, dir) = (inner.clone(), dir.clone());
    let removed = super::blocking(move || {
        if let Some(Ok(Some(process))) =
            sandboxes::read_ready(&dir).map(|ready| ready.identity().open())
        {
            process.signal(libc::SIGKILL).map_err(internal)?;
        }
        if let Some(record) = read_record::<SandboxRecord>(&dir.record()) {
            let entry = SandboxEntry {
                record,
                dir: dir.clone(),
                ready: None,
                turn: SandboxEntry::held(),
            };
            sandboxes::release(&inner, &entry).map_err(internal)?;
        }
        mounts::unmount_below(dir.path()).map_err(internal)?;
        std::fs::remove_dir_all(dir.path()).map_err(internal)
    })
    .await;
    if let Err(error) = removed {
        tracing::warn!(%error, "a leftover sandbox stays");
    }
}

/// Groups of pods that nobody knows any more: a crash between two steps.
async fn remove_unknown_groups(inner: &Arc<Inner>) {
    let known: BTreeSet<String> = {
        let state = inner.state();
        let groups = state
            .sandboxes
            .values()
            .map(|entry| inner.pod_group(&entry.record.config));
        groups.map(|group| group.path().to_owned()).collect()
    };
    let root = inner.cgroup_root();
    let work = move || {
        for parent in [
            root.clone(),
            root.child("burstable"),
            root.child("besteffort"),
        ] {
            for name in parent
                .children()
                .iter()
                .filter(|name| name.starts_with("pod"))
            {
                let group = parent.child(name);
                if !known.contains(group.path()) {
                    group
                        .kill_all()
                        .and_then(|()| group.remove())
                        .map_err(internal)?;
                }
            }
        }
        Ok(())
    };
    if let Err(error) = super::blocking(work).await {
        tracing::warn!(%error, "a leftover cgroup stays");
    }
}

async fn detach_unknown_pods(inner: &Arc<Inner>) {
    let network = &inner.options.network;
    let existing = network.existing().await.unwrap_or_default();
    let known: BTreeSet<String> = {
        let state = inner.state();
        let living = state
            .sandboxes
            .values()
            .filter(|entry| !entry.record.is_stopped);
        living
            .map(|entry| entry.record.config.pod.uid.clone())
            .collect()
    };
    for uid in existing.iter().filter(|uid| !known.contains(*uid)) {
        if let Err(error) = network.detach(uid).await {
            tracing::warn!(uid, %error, "addresses of a pod that is gone stay");
        }
    }
}

/// Tells of pods that go on, but whose network is not what it was: something took it away while nobody looked.
async fn check_networks(inner: Arc<Inner>) {
    let living: Vec<SandboxDir> = {
        let state = inner.state();
        let ready = state.sandboxes.values();
        let ready = ready.filter(|entry| entry.ready.is_some());
        ready.map(|entry| entry.dir.clone()).collect()
    };
    for dir in living {
        let Some(record) = read_record::<SandboxRecord>(&dir.record()) else {
            continue;
        };
        let pod = &record.config.pod;
        let Ok(Some(netns)) = sandboxes::namespace(&dir, NamespaceKind::Network).await else {
            continue;
        };
        let checked = inner.options.network.check(&pod.uid, netns.as_fd()).await;
        if let Err(error) = checked {
            let (namespace, name) = (&pod.namespace, &pod.name);
            tracing::warn!(namespace, name, %error, "the network of a pod is not as it was made; delete the pod to have it made anew");
        }
    }
}

impl Runtime {
    /// Ends and removes every sandbox and container, the cgroups and the mounts. Nothing of the runtime is left.
    pub async fn clean_up(self) -> Result<(), Error> {
        let ids: Vec<_> = self.inner.state().sandboxes.keys().cloned().collect();
        for id in ids {
            sandboxes::remove(&self.inner, &id).await?;
        }
        let inner = self.inner.clone();
        let work = move || {
            let root = inner.cgroup_root();
            root.kill_all().map_err(internal)?;
            root.remove().map_err(internal)?;
            let run = inner.layout.run().canonicalize().map_err(internal)?;
            mounts::unmount_below(&run).map_err(internal)
        };
        super::blocking(work).await?;
        Ok(())
    }
}

fn read_record<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}
