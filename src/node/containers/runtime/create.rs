//! Preparing a container: root filesystem, user, filter, mounts, and the bundle on disk. Nothing is started here.

use super::state::{ContainerEntry, ContainerRecord, Phase, SandboxEntry};
use super::{Inner, blocking, files, launcher, sandboxes};
use crate::capabilities;
use crate::error::internal;
use crate::layout::ContainerDir;
use crate::plan::{Launch, ProcessPlan};
use crate::seccomp::{self, Filter, Profile};
use crate::spec::{
    self, HostDevice, Namespaces, PidNamespace, ResolvedUser, SandboxFiles, SpecInputs,
    oci_configuration,
};
use cri::{
    ContainerConfig, ContainerEventKind, ContainerId, Error, Mount, MountPropagation,
    NamespaceMode, PidMode, PodSandboxId, Privilege, Result, RootFs, SeccompProfile, UserNamespace,
};
use linux::namespaces::{Namespace, NamespaceKind};
use linux::safe_path::Root;
use linux::{AtomicFile, mounts};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest /etc/passwd, /etc/group or seccomp profile that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Signal of a container that names none.
const DEFAULT_STOP_SIGNAL: &str = "SIGTERM";

/// What is known before anything of the container is on disk.
struct Draft {
    entry: ContainerEntry,
    sandbox: SandboxEntry,
    rootfs: RootFs,
    is_mapped: bool,
    user_namespace: Option<Namespace>,
    /// The process whose pid namespace is joined.
    target_pid: Option<i32>,
}

/// Prepares a container, to the end even when the caller goes away; on an error nothing is left behind.
pub(super) async fn create(
    inner: &Arc<Inner>,
    sandbox_id: &PodSandboxId,
    config: ContainerConfig,
) -> Result<ContainerId> {
    let (inner, sandbox_id) = (inner.clone(), sandbox_id.clone());
    sandboxes::to_the_end(async move { create_whole(&inner, &sandbox_id, config).await }).await
}

async fn create_whole(
    inner: &Arc<Inner>,
    sandbox_id: &PodSandboxId,
    config: ContainerConfig,
) -> Result<ContainerId> {
    // Nothing is put into a sandbox that is being stopped.
    let turn = inner.sandbox(sandbox_id)?.turn;
    let _turn = turn.lock().await;
    let sandbox = inner.sandbox(sandbox_id)?;
    if sandbox.ready.is_none() {
        return Err(Error::CreateContainer(format!(
            "pod sandbox {sandbox_id} is not ready"
        )));
    }
    let target_pid = target_pid(inner, &config)?;
    let user_namespace = match sandbox.record.config.namespaces.user {
        UserNamespace::Node => None,
        UserNamespace::Pod(_) => sandboxes::namespace(&sandbox.dir, NamespaceKind::User).await?,
    };
    let id = ContainerId(inner.new_id());
    let rootfs = rootfs(inner, &config, &id, user_namespace.as_ref()).await?;
    let made = prepare(
        inner,
        &id,
        sandbox,
        config,
        rootfs,
        user_namespace,
        target_pid,
    )
    .await;
    match made {
        Ok(entry) => {
            inner.state().containers.insert(id.clone(), entry.clone());
            inner.emit(&entry, ContainerEventKind::Created);
            Ok(id)
        }
        Err(error) => {
            if let Err(left) = inner.options.images.remove_rootfs(&id).await {
                tracing::warn!(container = %id, error = %left, "a root filesystem was left behind");
            }
            Err(error)
        }
    }
}

/// The root filesystem, through the user namespace's mapping if the image store can make it so. If it cannot,
/// the whole root filesystem is mapped later, which the kernel does for plain directories but not for an overlay.
async fn rootfs(
    inner: &Inner,
    config: &ContainerConfig,
    id: &ContainerId,
    user_namespace: Option<&Namespace>,
) -> Result<MappedRootFs> {
    let images = &inner.options.images;
    if let Some(namespace) = user_namespace {
        match images
            .prepare_mapped_rootfs(&config.image_id, id, namespace.as_fd())
            .await
        {
            Ok(rootfs) => {
                return Ok(MappedRootFs {
                    rootfs,
                    is_mapped: true,
                });
            }
            Err(Error::Unsupported(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let rootfs = images.prepare_rootfs(&config.image_id, id).await?;
    Ok(MappedRootFs {
        rootfs,
        is_mapped: false,
    })
}

/// A root filesystem, and whether it shows ids as the pod's user namespace has them.
struct MappedRootFs {
    rootfs: RootFs,
    is_mapped: bool,
}

async fn prepare(
    inner: &Arc<Inner>,
    id: &ContainerId,
    sandbox: SandboxEntry,
    config: ContainerConfig,
    MappedRootFs { rootfs, is_mapped }: MappedRootFs,
    user_namespace: Option<Namespace>,
    target_pid: Option<i32>,
) -> Result<ContainerEntry> {
    let stop_signal = [
        config.stop_signal.as_deref(),
        Some(rootfs.config.stop_signal.as_str()),
    ]
    .into_iter()
    .flatten()
    .find(|signal| !signal.is_empty())
    .unwrap_or(DEFAULT_STOP_SIGNAL)
    .to_owned();
    if spec::stop_signal_number(&stop_signal).is_none() {
        return Err(Error::CreateContainerConfig(format!(
            "unknown stop signal {stop_signal:?}"
        )));
    }
    let record = ContainerRecord {
        id: id.clone(),
        sandbox: sandbox.record.id.clone(),
        config,
        created_at: inner.now(),
        user: ResolvedUser {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
        stop_signal,
    };
    let entry = ContainerEntry::new(record, sandbox.dir.container(id));
    let draft = Draft {
        entry,
        sandbox,
        rootfs,
        is_mapped,
        user_namespace,
        target_pid,
    };
    let inner = inner.clone();
    blocking(move || write_bundle(&inner, draft)).await
}

fn target_pid(inner: &Inner, config: &ContainerConfig) -> Result<Option<i32>> {
    let Some(target) = &config.target_container else {
        return Ok(None);
    };
    match inner.container(target)?.phase() {
        Phase::Running { pid, .. } => Ok(Some(pid)),
        _ => Err(Error::ContainerState {
            id: target.clone(),
            wanted: "running",
        }),
    }
}

fn write_bundle(inner: &Inner, mut draft: Draft) -> Result<ContainerEntry> {
    let dir = draft.entry.dir.clone();
    let written = fill_bundle(inner, &mut draft);
    if let Err(error) = written {
        // The first error is the one to tell.
        drop(mounts::unmount_below(dir.path()));
        drop(std::fs::remove_dir_all(dir.path()));
        return Err(error);
    }
    Ok(draft.entry)
}

fn fill_bundle(inner: &Inner, draft: &mut Draft) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::CreateContainer(error.to_string());
    launcher::make_directory(draft.entry.dir.path()).map_err(|error| failed(&error))?;
    let plan = process_plan(draft)?;
    let config = &draft.entry.record.config;
    let devices = devices(config)?;
    let (root, pod_mounts) = stage_mounts(draft)?;
    for mount in &pod_mounts {
        check_mount(mount)?;
    }
    let sandbox_files = sandbox_files(&draft.sandbox);
    let cgroup = inner
        .pod_group(&draft.sandbox.record.config)
        .child(&draft.entry.record.id.0);
    let directories = inner.cgroups.named_directories(&cgroup);
    let planned = spec::mounts(config, &pod_mounts, &sandbox_files, &directories);
    let namespaces = namespaces(inner, draft)?;
    let configuration = oci_configuration(&SpecInputs {
        config,
        rootfs: &root,
        cgroup_path: cgroup.path(),
        namespaces: &namespaces,
        mounts: planned,
        pod_mounts: &pod_mounts,
        devices: &devices,
    });
    let launch = Launch {
        plan,
        oom_score_adj: config.resources.oom_score_adj,
    };
    write_json(&draft.entry.dir.configuration(), &configuration)?;
    write_json(&draft.entry.dir.launch(), &launch)?;
    draft.entry.save().map_err(internal)
}

/// User, command, capabilities and filter. Fills in the record's user.
fn process_plan(draft: &mut Draft) -> Result<ProcessPlan> {
    let record = &mut draft.entry.record;
    let config = &record.config;
    let root = Root::open(&draft.rootfs.path).map_err(internal)?;
    let read = |path: &str| read_image_file(&root, path);
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let image = &draft.rootfs.config;
    record.user = spec::resolve_user(&config.security, &image.user, &passwd, &group)
        .map_err(|error| Error::CreateContainer(error.to_string()))?;
    let capabilities = capabilities::resolve(&config.security.privilege)
        .map_err(|name| Error::CreateContainerConfig(format!("unknown capability {name:?}")))?;
    let granted = capabilities.map_or(capabilities::CapabilitySet::ALL, |sets| sets.granted);
    let filter = filter(config, granted)?;
    let hostname = match draft.sandbox.record.config.namespaces.network {
        NamespaceMode::Pod => draft.sandbox.record.config.hostname.clone(),
        NamespaceMode::Node => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    };
    spec::process_plan(config, image, &hostname, &record.user, capabilities, filter)
        .ok_or_else(|| Error::CreateContainer("no command specified".to_owned()))
}

/// An image without the file has no names; one with a fifo or a monster in its place is refused.
fn read_image_file(root: &Root, path: &str) -> Result<String> {
    match root.read_to_string(Path::new(path), FILE_BYTES_MAX) {
        Ok(text) => Ok(text),
        Err(error) if error.is_not_found() || error.raw_os_error() == Some(libc::ENOTDIR) => {
            Ok(String::new())
        }
        Err(error) => Err(Error::CreateContainer(error.to_string())),
    }
}

/// The compiled filter. A profile that cannot be applied fails the container.
fn filter(
    config: &ContainerConfig,
    granted: capabilities::CapabilitySet,
) -> Result<Option<Filter>> {
    if config.security.privilege == Privilege::Privileged {
        return Ok(None);
    }
    let failed = |error: &dyn std::fmt::Display| Error::CreateContainer(error.to_string());
    let profile = match &config.security.seccomp {
        SeccompProfile::Unconfined => return Ok(None),
        SeccompProfile::RuntimeDefault => Profile::runtime_default(granted),
        SeccompProfile::Localhost(path) => {
            let described = |error: &dyn std::fmt::Display| {
                Error::CreateContainer(format!(
                    "cannot load seccomp profile {:?}: {error}",
                    path.display().to_string()
                ))
            };
            let length = path.metadata().map_err(|error| described(&error))?.len();
            if length > FILE_BYTES_MAX {
                return Err(described(&format!("longer than {FILE_BYTES_MAX} bytes")));
            }
            let json = std::fs::read(path).map_err(|error| described(&error))?;
            Profile::parse(&json).map_err(|error| described(&error))?
        }
    };
    Ok(Some(
        seccomp::compile(&profile).map_err(|error| failed(&error))?,
    ))
}

pub(super) fn devices(config: &ContainerConfig) -> Result<Vec<HostDevice>> {
    let named = files::named_devices(&config.devices).map_err(Error::CreateContainer)?;
    if config.security.privilege == Privilege::Privileged {
        let mut all = files::all_devices();
        all.retain(|device| {
            named
                .iter()
                .all(|other| other.container_path != device.container_path)
        });
        all.extend(named);
        return Ok(all);
    }
    Ok(named)
}

fn check_mount(mount: &Mount) -> Result<()> {
    if !mount.host_path.exists() {
        let path = mount.host_path.display();
        return Err(Error::CreateContainer(format!(
            "stat {path}: no such file or directory"
        )));
    }
    if mount.propagation == MountPropagation::Bidirectional && !is_on_shared_mount(&mount.host_path)
    {
        let path = mount.host_path.display();
        return Err(Error::CreateContainer(format!(
            "path {path} is not on a shared mount"
        )));
    }
    Ok(())
}

fn is_on_shared_mount(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let table = mounts::table().unwrap_or_default();
    let under = table
        .iter()
        .filter(|entry| path.starts_with(&entry.mount_point));
    under
        .max_by_key(|entry| entry.mount_point.components().count())
        .is_some_and(|entry| entry.shared)
}

/// In a user namespace, root filesystem and volumes are shown through its mapping, as staged mounts that
/// libcontainer binds from; else they are used where they are.
fn stage_mounts(draft: &Draft) -> Result<(PathBuf, Vec<Mount>)> {
    let pod_mounts = draft.entry.record.config.mounts.clone();
    let Some(namespace) = &draft.user_namespace else {
        return Ok((draft.rootfs.path.clone(), pod_mounts));
    };
    let staged = draft.entry.dir.staged_mounts();
    let mut root = draft.rootfs.path.clone();
    if !draft.is_mapped {
        root = staged.join("root");
        stage(&draft.rootfs.path, &root, namespace)?;
    }
    let mut out = Vec::new();
    for (index, mount) in pod_mounts.into_iter().enumerate() {
        if !mount.idmap {
            out.push(mount);
            continue;
        }
        let host_path = staged.join(index.to_string());
        stage(&mount.host_path, &host_path, namespace)?;
        out.push(Mount { host_path, ..mount });
    }
    Ok((root, out))
}

fn stage(source: &Path, target: &Path, namespace: &Namespace) -> Result<()> {
    let made = if source.is_dir() {
        std::fs::create_dir_all(target)
    } else {
        std::fs::create_dir_all(target.parent().unwrap_or(target))
            .and_then(|()| std::fs::File::create(target).map(drop))
    };
    made.map_err(|error| Error::CreateContainer(format!("make {}: {error}", target.display())))?;
    mounts::bind_id_mapped(source, target, namespace.as_fd()).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EPERM) => Error::Unsupported(format!(
                "a user namespace for {}, because its filesystem cannot map ids ({error}),",
                source.display()
            )),
            _ => Error::CreateContainer(error.to_string()),
        }
    })
}

fn sandbox_files(sandbox: &SandboxEntry) -> SandboxFiles {
    let namespaces = &sandbox.record.config.namespaces;
    SandboxFiles {
        hostname: (namespaces.network == NamespaceMode::Pod).then(|| sandbox.dir.hostname()),
        resolv_conf: sandbox.dir.resolv_conf(),
        shm: match namespaces.ipc {
            NamespaceMode::Pod => sandbox.dir.shm(),
            NamespaceMode::Node => PathBuf::from("/dev/shm"),
        },
    }
}

/// Paths work in the shim's workers, which inherit its descriptors.
fn namespaces(inner: &Inner, draft: &Draft) -> Result<Namespaces> {
    let ready = draft.sandbox.ready.as_ref();
    let ready = ready.ok_or_else(|| internal("the sandbox has no shim"))?;
    let path = |kind: NamespaceKind| {
        ready
            .namespaces
            .get(kind.file_name())
            .map(|fd| format!("/proc/self/fd/{fd}"))
    };
    let pid = match (draft.target_pid, draft.sandbox.record.config.namespaces.pid) {
        (Some(pid), PidMode::Container) => PidNamespace::Path(format!("/proc/{pid}/ns/pid")),
        (None, PidMode::Container) => PidNamespace::Own,
        (_, PidMode::Node) => PidNamespace::Host,
        (_, PidMode::Pod) => match path(NamespaceKind::Pid) {
            Some(path) => PidNamespace::Path(path),
            None => return Err(internal("the sandbox has no shared pid namespace")),
        },
    };
    Ok(Namespaces {
        network: path(NamespaceKind::Network),
        ipc: path(NamespaceKind::Ipc),
        uts: path(NamespaceKind::Uts),
        user: path(NamespaceKind::User),
        pid,
        has_cgroup: inner.cgroups.version() == linux::cgroup::CgroupVersion::V2,
    })
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).expect("plain data becomes JSON");
    AtomicFile::private(path).write(&bytes).map_err(internal)
}

/// Takes away what a bundle mounted, and the bundle.
pub(super) fn remove_bundle(dir: &ContainerDir) -> Result<()> {
    let path = dir
        .path()
        .canonicalize()
        .unwrap_or_else(|_| dir.path().to_owned());
    mounts::unmount_below(&path).map_err(internal)?;
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(internal(error)),
        _ => Ok(()),
    }
}
