//! Starting, stopping, changing and removing containers.

use super::shim_client::{ShimConnection, call_done, describe};
use super::state::{ContainerEntry, Phase, SandboxEntry};
use super::{Inner, blocking, create, sandboxes};
use crate::error::internal;
use crate::shim::protocol::{Answer, ContainerIo, ExitRecord, Request};
use crate::spec::{device_rules, stop_signal_number};
use cri::{ContainerEventKind, ContainerId, Error, LinuxResources, PidMode, Privilege, Result};
use linux::AtomicFile;
use linux::cgroup::Cgroup;
use std::sync::Arc;
use std::time::Duration;

/// Exit code of a container whose program could not be started, as containerd has it.
const START_ERROR_CODE: i32 = 128;
/// How long the kernel may take to end killed processes.
const KILL_WAIT_MAX: Duration = Duration::from_secs(10);

/// Starts the first process. When that fails the container counts as exited.
pub(super) async fn start(inner: &Arc<Inner>, id: &ContainerId) -> Result<()> {
    let (entry, sandbox) = inner.container_and_sandbox(id)?;
    let _turn = entry.turn.lock().await;
    if entry.phase() != Phase::Created {
        return Err(Error::ContainerState {
            id: id.clone(),
            wanted: "created",
        });
    }
    let group = group_of(inner, &entry, &sandbox);
    let started = start_in_shim(inner, &entry, &sandbox, &group).await;
    match started {
        Ok(pid) => {
            inner.mark_running(&entry, pid, inner.now());
            Ok(())
        }
        Err(message) => {
            fail_start(inner, &entry, &sandbox, group, &message).await;
            Err(Error::RunContainer(message))
        }
    }
}

async fn start_in_shim(
    inner: &Arc<Inner>,
    entry: &ContainerEntry,
    sandbox: &SandboxEntry,
    group: &Cgroup,
) -> Result<i32, String> {
    let (prepared, config) = (group.clone(), entry.record.config.clone());
    blocking(move || prepare_group(&prepared, &config))
        .await
        .map_err(|error| error.to_string())?;
    let config = &entry.record.config;
    let has_own_pids = sandbox.record.config.namespaces.pid == PidMode::Container
        && config.target_container.is_none();
    let request = Request::Start {
        container: entry.record.id.0.clone(),
        io: ContainerIo {
            terminal: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            log_path: sandbox.record.config.log_directory.join(&config.log_path),
            log_bytes_max: inner.options.log_limits.bytes_max,
            log_files_max: inner.options.log_limits.files_max,
        },
        cgroup_path: group.path().to_owned(),
        kill_leftovers: !has_own_pids,
    };
    let connection = ShimConnection::connect(&sandbox.dir);
    let mut connection = connection.map_err(|error| error.to_string())?;
    match connection
        .call(&request, &[])
        .await
        .map_err(|error| error.to_string())?
    {
        Ok(Answer::Started { pid }) => Ok(pid),
        Ok(_) => Err("the shim answered something else".to_owned()),
        Err(failure) => Err(describe(&failure)),
    }
}

/// The container's cgroup with its limits, before there is a process in it.
fn prepare_group(group: &Cgroup, config: &cri::ContainerConfig) -> Result<()> {
    group.create().map_err(internal)?;
    group
        .write_limits(&sandboxes::limits(&config.resources))
        .map_err(internal)?;
    let is_privileged = config.security.privilege == Privilege::Privileged;
    let rules = device_rules(is_privileged, &create::devices(config)?);
    group.restrict_devices(&rules).map_err(internal)
}

/// Remembers that the program never ran.
async fn fail_start(
    inner: &Arc<Inner>,
    entry: &ContainerEntry,
    sandbox: &SandboxEntry,
    group: Cgroup,
    message: &str,
) {
    let exit = ExitRecord {
        code: START_ERROR_CODE,
        oom_killed: false,
        started_at: None,
        finished_at: inner.now(),
        start_error: Some(message.to_owned()),
        unknown: false,
    };
    let bytes = serde_json::to_vec(&exit).expect("plain data becomes JSON");
    let (path, state) = (
        entry.dir.exit(),
        sandbox.dir.state().join(&entry.record.id.0),
    );
    let cleaned = blocking(move || {
        AtomicFile::private(path).write(&bytes).map_err(internal)?;
        group.kill_all().map_err(internal)?;
        group.remove().map_err(internal)?;
        remove_state(&state)
    })
    .await;
    if let Err(error) = cleaned {
        tracing::warn!(container = %entry.record.id, %error, "a container that did not start left something");
    }
    inner.mark_exited(entry, &exit);
}

/// Sends the stop signal, waits, kills, and returns when the container has ended.
pub(super) async fn stop(inner: &Arc<Inner>, id: &ContainerId, grace: Duration) -> Result<()> {
    let Ok((entry, sandbox)) = inner.container_and_sandbox(id) else {
        return Ok(());
    };
    if !matches!(entry.phase(), Phase::Running { .. }) {
        return Ok(());
    }
    if sandbox.ready.is_none() {
        return end_unseen(inner, &entry, &sandbox).await;
    }
    if !grace.is_zero() {
        let number = stop_signal_number(&entry.record.stop_signal).unwrap_or(libc::SIGTERM);
        signal(&entry, &sandbox, number).await;
        if ended_within(&entry, grace).await {
            return Ok(());
        }
    }
    signal(&entry, &sandbox, libc::SIGKILL).await;
    if ended_within(&entry, KILL_WAIT_MAX).await {
        return Ok(());
    }
    let group = group_of(inner, &entry, &sandbox);
    blocking(move || {
        group
            .kill_all()
            .map_err(|error| Error::Kill(error.to_string()))
    })
    .await?;
    if ended_within(&entry, KILL_WAIT_MAX).await {
        return Ok(());
    }
    Err(Error::Kill(format!("container {id} does not end")))
}

/// Ends a container that no shim watches: its sandbox was stopped while it was being started.
async fn end_unseen(
    inner: &Arc<Inner>,
    entry: &ContainerEntry,
    sandbox: &SandboxEntry,
) -> Result<()> {
    let group = group_of(inner, entry, sandbox);
    blocking(move || {
        group
            .kill_all()
            .map_err(|error| Error::Kill(error.to_string()))
    })
    .await?;
    let exit = recorded_exit(entry)
        .unwrap_or_else(|| sandboxes::unknown_exit(&entry.phase(), inner.now()));
    inner.mark_exited(entry, &exit);
    Ok(())
}

/// A shim that is gone, or that says the container has ended, is found out by waiting for the end.
async fn signal(entry: &ContainerEntry, sandbox: &SandboxEntry, number: i32) {
    let container = entry.record.id.0.clone();
    let sent = call_done(&sandbox.dir, &Request::Signal { container, number }).await;
    if let Err(error) = sent {
        tracing::debug!(container = %entry.record.id, %error, number, "a signal was not sent");
    }
}

/// Whether the container ends within the time.
async fn ended_within(entry: &ContainerEntry, limit: Duration) -> bool {
    let mut phase = entry.phase.subscribe();
    let ended = phase.wait_for(|phase| matches!(phase, Phase::Exited(_)));
    matches!(env::timeout(limit, ended).await, Ok(Ok(_)))
}

/// Removes a container with its root filesystem and cgroup; kills it first if it runs.
pub(super) async fn remove(inner: &Arc<Inner>, id: &ContainerId) -> Result<()> {
    let Ok((entry, sandbox)) = inner.container_and_sandbox(id) else {
        return Ok(());
    };
    let _turn = entry.turn.lock().await;
    stop(inner, id, Duration::ZERO).await?;
    if sandbox.ready.is_some() {
        call_done(
            &sandbox.dir,
            &Request::Forget {
                container: id.0.clone(),
            },
        )
        .await?;
    }
    let group = group_of(inner, &entry, &sandbox);
    let (state, dir) = (sandbox.dir.state().join(&id.0), entry.dir.clone());
    blocking(move || {
        group
            .kill_all()
            .map_err(|error| Error::Kill(error.to_string()))?;
        group.remove().map_err(internal)?;
        remove_state(&state)?;
        create::remove_bundle(&dir)
    })
    .await?;
    inner.options.images.remove_rootfs(id).await?;
    inner.state().containers.remove(id);
    inner.emit(&entry, ContainerEventKind::Removed);
    Ok(())
}

/// Changes limits in place, and remembers them.
pub(super) async fn update(
    inner: &Arc<Inner>,
    id: &ContainerId,
    resources: &LinuxResources,
) -> Result<()> {
    let (entry, sandbox) = inner.container_and_sandbox(id)?;
    if let Phase::Exited(_) = entry.phase() {
        return Err(Error::ContainerState {
            id: id.clone(),
            wanted: "running",
        });
    }
    let group = group_of(inner, &entry, &sandbox);
    let limits = sandboxes::limits(resources);
    if matches!(entry.phase(), Phase::Running { .. }) {
        blocking(move || group.write_limits(&limits).map_err(internal)).await?;
    }
    let changed = {
        let mut state = inner.state();
        let Some(found) = state.containers.get_mut(id) else {
            return Ok(());
        };
        merge(&mut found.record.config.resources, resources);
        found.clone()
    };
    blocking(move || changed.save().map_err(internal)).await
}

/// `None` fields stay as they are.
fn merge(current: &mut LinuxResources, change: &LinuxResources) {
    fn take<T: Clone>(current: &mut Option<T>, change: &Option<T>) {
        if change.is_some() {
            current.clone_from(change);
        }
    }
    take(&mut current.cpu_period, &change.cpu_period);
    take(&mut current.cpu_quota, &change.cpu_quota);
    take(&mut current.cpu_shares, &change.cpu_shares);
    take(&mut current.cpuset_cpus, &change.cpuset_cpus);
    take(&mut current.cpuset_mems, &change.cpuset_mems);
    take(&mut current.memory_limit, &change.memory_limit);
    take(&mut current.memory_swap_limit, &change.memory_swap_limit);
    take(&mut current.pids_limit, &change.pids_limit);
    take(&mut current.oom_score_adj, &change.oom_score_adj);
    if !change.hugepage_limits.is_empty() {
        current.hugepage_limits.clone_from(&change.hugepage_limits);
    }
    current.unified.extend(change.unified.clone());
}

pub(super) fn group_of(inner: &Inner, entry: &ContainerEntry, sandbox: &SandboxEntry) -> Cgroup {
    inner
        .pod_group(&sandbox.record.config)
        .child(&entry.record.id.0)
}

/// How a container ended, if its shim wrote that down.
pub(super) fn recorded_exit(entry: &ContainerEntry) -> Option<ExitRecord> {
    serde_json::from_slice(&std::fs::read(entry.dir.exit()).ok()?).ok()
}

/// libcontainer's state.
fn remove_state(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(internal(error)),
        _ => Ok(()),
    }
}
