//! Making, stopping and removing sandboxes, and listening to their shims.

use super::shim_client::{ShimConnection, call_done};
use super::state::{Phase, SandboxEntry, SandboxRecord, Turn};
use super::{Inner, blocking, containers, files, launcher};
use crate::error::internal;
use crate::layout::SandboxDir;
use crate::shim::Ready;
use crate::shim::protocol::{Answer, ExitRecord, Request};
use crate::shim::sandbox::ShimConfiguration;
use cri::{
    ContainerEventKind, ContainerId, Error, NamespaceMode, NetworkAttachment, PidMode,
    PodSandboxConfig, PodSandboxId, Result, UserNamespace,
};
use linux::cgroup::CgroupLimits;
use linux::mounts;
use linux::namespaces::{Namespace, NamespaceKind};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Exit code of a container whose end nobody saw, as other runtimes have it.
const UNKNOWN_EXIT_CODE: i32 = 255;
/// How long a shim may take to say that it ends.
const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Makes a sandbox; on an error nothing is left behind. It is listed, not ready, while it is made, and made to the end
/// when the caller goes away: so it can be removed.
pub(super) async fn run(inner: &Arc<Inner>, config: PodSandboxConfig) -> Result<PodSandboxId> {
    let entry = new_entry(inner, config)?;
    // Before anything is waited for: a caller that goes away now finds it in the list, and nobody else would.
    let turn = entry.turn.clone();
    let mut turn = turn
        .try_lock_owned()
        .expect("nobody else knows the sandbox");
    let id = entry.record.id.clone();
    inner.state().sandboxes.insert(id, entry.clone());
    let inner = inner.clone();
    to_the_end(async move { run_whole(&inner, entry, &mut turn).await }).await
}

fn new_entry(inner: &Inner, config: PodSandboxConfig) -> Result<SandboxEntry> {
    let id = PodSandboxId(inner.new_id());
    Ok(SandboxEntry {
        dir: inner.layout.sandbox(&id),
        record: SandboxRecord {
            id,
            config,
            created_at: inner.now(),
            addresses: Vec::new(),
            boot_id: linux::process::boot_id().map_err(internal)?,
            is_stopped: false,
        },
        ready: None,
        turn: SandboxEntry::held(),
    })
}

/// Work that is not cut off with its caller.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    env::spawn(work).await.map_err(internal)?
}

async fn run_whole(
    inner: &Arc<Inner>,
    mut entry: SandboxEntry,
    turn: &mut Turn,
) -> Result<PodSandboxId> {
    let id = entry.record.id.clone();
    let made = make(inner, &mut entry).await;
    if let Err(error) = made {
        match undo(inner, &entry).await {
            Ok(()) => drop(inner.state().sandboxes.remove(&id)),
            // It stays in the list, as one that is stopped: whoever removes the pod's sandboxes tries again.
            Err(left) => {
                entry.record.is_stopped = true;
                *turn = Turn::Released;
                inner.state().sandboxes.insert(id.clone(), entry);
                tracing::warn!(sandbox = %id, error = %left, "a sandbox that could not be made left something");
            }
        }
        return Err(error);
    }
    inner.state().sandboxes.insert(id.clone(), entry);
    listen(inner, &id);
    Ok(id)
}

async fn make(inner: &Arc<Inner>, entry: &mut SandboxEntry) -> Result<()> {
    let (work, prepared) = (inner.clone(), entry.clone());
    entry.ready = Some(blocking(move || make_local(&work, &prepared)).await?);
    entry.record.addresses = attach_network(inner, entry).await?;
    entry
        .save()
        .map_err(|error| Error::CreatePodSandbox(error.to_string()))
}

/// Everything but the network: directory, files, cgroup, shim.
fn make_local(inner: &Inner, entry: &SandboxEntry) -> Result<Ready> {
    let failed = |error: &dyn std::fmt::Display| Error::CreatePodSandbox(error.to_string());
    let (dir, config) = (&entry.dir, &entry.record.config);
    launcher::make_directory(dir.path()).map_err(|error| failed(&error))?;
    launcher::make_directory(&dir.containers()).map_err(|error| failed(&error))?;
    launcher::make_directory(&dir.state()).map_err(|error| failed(&error))?;
    // A record from the first moment: a crash in between leaves something that can be found and removed.
    entry.save().map_err(|error| failed(&error))?;
    write_files(dir, config).map_err(|error| failed(&error))?;
    let group = inner.pod_group(config);
    group.create().map_err(|error| failed(&error))?;
    group
        .write_limits(&limits(&config.resources))
        .map_err(|error| failed(&error))?;
    let configuration = shim_configuration(inner, config);
    let bytes = serde_json::to_vec(&configuration).expect("plain data becomes JSON");
    linux::AtomicFile::private(dir.shim_configuration())
        .write(&bytes)
        .map_err(|error| failed(&error))?;
    inner.start_shim(dir).map_err(|error| failed(&error))?;
    read_ready(dir).ok_or_else(|| failed(&"the shim has said nothing of itself"))
}

fn write_files(dir: &SandboxDir, config: &PodSandboxConfig) -> linux::Result<()> {
    use linux::AtomicFile;
    let text = format!("{}\n", config.hostname);
    AtomicFile::with_mode(dir.hostname(), 0o644).write(text.as_bytes())?;
    let resolv = match &config.dns {
        Some(dns) => files::resolv_conf(dns).into_bytes(),
        None => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
    };
    AtomicFile::with_mode(dir.resolv_conf(), 0o644).write(&resolv)?;
    if config.namespaces.ipc == NamespaceMode::Pod {
        let shm = dir.shm();
        std::fs::create_dir_all(&shm)
            .map_err(|error| linux::Error::other("make /dev/shm", error.to_string()))?;
        mounts::tmpfs(&shm, "mode=1777,size=65536k")?;
    }
    Ok(())
}

fn shim_configuration(inner: &Inner, config: &PodSandboxConfig) -> ShimConfiguration {
    let namespaces = &config.namespaces;
    let has_network = namespaces.network == NamespaceMode::Pod;
    ShimConfiguration {
        network: has_network,
        ipc: namespaces.ipc == NamespaceMode::Pod,
        // A pod on the host's network has the host's name.
        uts: has_network,
        shared_pid: namespaces.pid == PidMode::Pod,
        user: match &namespaces.user {
            UserNamespace::Node => Vec::new(),
            UserNamespace::Pod(mapping) => vec![*mapping],
        },
        hostname: config.hostname.clone(),
        sysctls: config.sysctls.clone(),
        cgroup_path: inner.shims_group().path().to_owned(),
    }
}

pub(super) fn read_ready(dir: &SandboxDir) -> Option<Ready> {
    serde_json::from_slice(&std::fs::read(dir.ready()).ok()?).ok()
}

async fn attach_network(inner: &Inner, entry: &SandboxEntry) -> Result<Vec<IpAddr>> {
    let config = &entry.record.config;
    if config.namespaces.network == NamespaceMode::Node {
        return Ok(Vec::new());
    }
    let netns = namespace(&entry.dir, NamespaceKind::Network).await?;
    let netns = netns.ok_or_else(|| internal("the sandbox has no network namespace"))?;
    let attachment = NetworkAttachment {
        pod: &config.pod,
        labels: &config.labels,
        annotations: &config.annotations,
        netns: netns.as_fd(),
        port_mappings: &config.port_mappings,
    };
    inner
        .options
        .network
        .attach(attachment)
        .await
        .map_err(|error| match error {
            Error::ConfigPodSandboxNetwork(_) => error,
            other => Error::ConfigPodSandboxNetwork(other.to_string()),
        })
}

/// A namespace of a sandbox, from its shim.
pub(super) async fn namespace(dir: &SandboxDir, kind: NamespaceKind) -> Result<Option<Namespace>> {
    let mut connection = ShimConnection::connect(dir)?;
    let answer = connection.call(&Request::Namespaces, &[]).await?;
    let Ok(Answer::Namespaces { kinds }) = answer else {
        return Err(internal("the shim did not hand out its namespaces"));
    };
    let named = kinds.iter().zip(connection.take_descriptors());
    let found = named
        .into_iter()
        .find(|(name, _)| *name == kind.file_name());
    Ok(found.map(|(_, fd)| Namespace::from_fd(kind, fd)))
}

/// Stops everything in a sandbox, to the end even when the caller goes away. It stays listed, not ready, until it is removed.
pub(super) async fn stop(inner: &Arc<Inner>, id: &PodSandboxId) -> Result<()> {
    let (inner, id) = (inner.clone(), id.clone());
    to_the_end(async move { stop_whole(&inner, &id).await }).await
}

async fn stop_whole(inner: &Arc<Inner>, id: &PodSandboxId) -> Result<()> {
    let Ok(entry) = inner.sandbox(id) else {
        return Ok(());
    };
    let mut turn = entry.turn.lock().await;
    if *turn == Turn::Released {
        return Ok(());
    }
    // As it is now: it may have been made meanwhile.
    let Ok(entry) = inner.sandbox(id) else {
        return Ok(());
    };
    for container in inner.containers_of(id) {
        containers::stop(inner, &container.record.id, Duration::ZERO).await?;
    }
    inner
        .options
        .network
        .detach(&entry.record.config.pod.uid)
        .await?;
    if let Some(entry) = inner.state().sandboxes.get_mut(id) {
        // Before the shim goes: its end is no loss then.
        entry.record.is_stopped = true;
        entry.ready = None;
    }
    end_shim(&entry).await;
    let (work, stopped) = (inner.clone(), inner.sandbox(id)?);
    blocking(move || {
        release(&work, &stopped).map_err(|error| Error::Kill(error.to_string()))?;
        stopped.save().map_err(internal)
    })
    .await?;
    *turn = Turn::Released;
    // One that was being started meanwhile has run since it was passed over, and nobody saw it end.
    for container in inner.containers_of(id) {
        containers::stop(inner, &container.record.id, Duration::ZERO).await?;
    }
    Ok(())
}

/// Asks the shim to end, and kills it if it does not answer.
async fn end_shim(entry: &SandboxEntry) {
    let Some(ready) = &entry.ready else { return };
    let Ok(Some(process)) = ready.identity().open() else {
        return;
    };
    let asked = env::timeout(SHUTDOWN_WAIT_MAX, call_done(&entry.dir, &Request::Shutdown)).await;
    if !matches!(asked, Ok(Ok(()))) {
        // Its containers were killed before; what it still holds are namespaces.
        drop(process.signal(libc::SIGKILL));
    }
    drop(env::spawn_blocking(move || process.wait(SHUTDOWN_WAIT_MAX)).await);
}

/// Processes, cgroup and mounts of a sandbox. The directory with its records stays.
pub(super) fn release(inner: &Inner, entry: &SandboxEntry) -> linux::Result<()> {
    let group = inner.pod_group(&entry.record.config);
    group.kill_all()?;
    group.remove()?;
    unmount(&entry.dir)
}

fn unmount(dir: &SandboxDir) -> linux::Result<()> {
    match dir.path().canonicalize() {
        Ok(path) => mounts::unmount_below(&path),
        // Nothing is mounted below what is not there.
        Err(_) => Ok(()),
    }
}

/// Stops a sandbox and removes it with all its containers.
pub(super) async fn remove(inner: &Arc<Inner>, id: &PodSandboxId) -> Result<()> {
    let (inner, id) = (inner.clone(), id.clone());
    to_the_end(async move { remove_whole(&inner, &id).await }).await
}

async fn remove_whole(inner: &Arc<Inner>, id: &PodSandboxId) -> Result<()> {
    let Ok(entry) = inner.sandbox(id) else {
        return Ok(());
    };
    stop(inner, id).await?;
    for container in inner.containers_of(id) {
        containers::remove(inner, &container.record.id).await?;
    }
    remove_directory(&entry.dir).await?;
    inner.state().sandboxes.remove(id);
    Ok(())
}

/// Also what is mounted in it still, although it was released: it would be in the way each time.
async fn remove_directory(dir: &SandboxDir) -> Result<()> {
    let dir = dir.clone();
    blocking(move || {
        unmount(&dir).map_err(|error| Error::Kill(error.to_string()))?;
        match std::fs::remove_dir_all(dir.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::Kill(
                format!("remove {}: {error}", dir.path().display()),
            )),
            _ => Ok(()),
        }
    })
    .await
}

/// Takes back what a sandbox that could not be made left. The reason why it could not is what the caller hears.
async fn undo(inner: &Arc<Inner>, entry: &SandboxEntry) -> Result<()> {
    let uid = &entry.record.config.pod.uid;
    let detached = inner.options.network.detach(uid).await;
    let found = SandboxEntry {
        ready: read_ready(&entry.dir),
        ..entry.clone()
    };
    end_shim(&found).await;
    let (work, released) = (inner.clone(), entry.clone());
    blocking(move || release(&work, &released).map_err(internal)).await?;
    remove_directory(&entry.dir).await?;
    detached
}

/// Starts the task that hears what a sandbox's shim has to say.
pub(super) fn listen(inner: &Arc<Inner>, id: &PodSandboxId) {
    let (inner, id) = (inner.clone(), id.clone());
    env::spawn(async move {
        let Ok(entry) = inner.sandbox(&id) else {
            return;
        };
        if let Err(error) = hear(&inner, &entry).await {
            tracing::debug!(sandbox = %id, %error, "the connection to a shim broke");
        }
        let stopped = inner
            .sandbox(&id)
            .is_ok_and(|entry| entry.record.is_stopped);
        if !stopped {
            lose(&inner, &id).await;
        }
    });
}

/// Returns when the shim is gone.
async fn hear(inner: &Inner, entry: &SandboxEntry) -> Result<()> {
    let mut connection = ShimConnection::connect(&entry.dir)?;
    let Ok(Answer::Containers { containers }) = connection.call(&Request::Watch, &[]).await? else {
        return Err(internal("the shim does not let us watch"));
    };
    for (id, view) in containers {
        let Ok(container) = inner.container(&ContainerId(id)) else {
            continue;
        };
        inner.mark_running(&container, view.pid, view.started_at);
        if let Some(exit) = view.exit {
            inner.mark_exited(&container, &exit);
        }
    }
    while let Some(answer) = connection.next().await.map_err(internal)? {
        match answer {
            // Also the answer to a start whose caller went away meanwhile.
            Answer::Running {
                container,
                pid,
                started_at,
            } => {
                if let Ok(container) = inner.container(&ContainerId(container)) {
                    inner.mark_running(&container, pid, started_at);
                }
            }
            Answer::Exited { container, exit } => {
                if let Ok(container) = inner.container(&ContainerId(container)) {
                    inner.mark_exited(&container, &exit);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The shim is gone: its namespaces live on in its containers only, and nobody sees them end. They are killed.
pub(super) async fn lose(inner: &Arc<Inner>, id: &PodSandboxId) {
    let Ok(entry) = inner.sandbox(id) else { return };
    tracing::warn!(sandbox = %id, pod = %entry.record.config.pod.uid, "a sandbox lost its shim");
    if let Some(entry) = inner.state().sandboxes.get_mut(id) {
        entry.ready = None;
    }
    let group = inner.pod_group(&entry.record.config);
    let killed = blocking(move || group.kill_all().map_err(internal)).await;
    if let Err(error) = killed {
        tracing::warn!(sandbox = %id, %error, "containers without a shim cannot be killed");
    }
    for container in inner.containers_of(id) {
        if matches!(container.phase(), Phase::Running { .. }) {
            let exit = containers::recorded_exit(&container)
                .unwrap_or_else(|| unknown_exit(&container.phase(), inner.now()));
            inner.mark_exited(&container, &exit);
        }
    }
    inner.emit_of(id, None, ContainerEventKind::SandboxLost);
}

/// The end of a container that nobody saw.
pub(super) fn unknown_exit(phase: &Phase, now: i64) -> ExitRecord {
    ExitRecord {
        code: UNKNOWN_EXIT_CODE,
        oom_killed: false,
        started_at: match phase {
            Phase::Running { started_at, .. } => Some(*started_at),
            _ => None,
        },
        finished_at: now,
        start_error: None,
        unknown: true,
    }
}

/// CRI's limits in the words of control groups.
pub(super) fn limits(resources: &cri::LinuxResources) -> CgroupLimits {
    CgroupLimits {
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        memory: resources.memory_limit,
        memory_and_swap: resources.memory_swap_limit,
        pids: resources.pids_limit,
        huge_pages: resources
            .hugepage_limits
            .iter()
            .map(|limit| linux::cgroup::HugePageLimit {
                page_size: limit.page_size.clone(),
                bytes: limit.limit_bytes,
            })
            .collect(),
        unified: resources.unified.clone(),
    }
}
