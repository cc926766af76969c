//! A node of a test: a data directory, an image store that unpacks busybox, a network that hands out one address.

use async_trait::async_trait;
use containers::{LogLimits, Runtime, RuntimeOptions};
use cri::{
    ContainerConfig, ContainerId, ContainerState, ExitReason, FilesystemUsage, Image, ImageConfig,
    ImageFilesystems, ImageId, ImageService, ImageSpec, NetworkAttachment, PodIdentity,
    PodSandboxConfig, PodSandboxId, PullAuth, Result, RootFs, RuntimeService, SandboxNetwork,
};
use env::{SystemClock, SystemRng};
use std::future::Future;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &str = "sh cat id sleep ls touch echo grep env mount hostname stty tail dd head kill ps chown \
    wc tty stat yes seq true false test mkdir rm ln nc ip readlink unshare chmod mknod sysctl printf sort tr";

pub(crate) fn can_run() -> bool {
    let is_root = rustix::process::getuid().is_root();
    is_root && Path::new(BUSYBOX).exists()
}

/// Runs a test on a tokio runtime of its own.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

pub(crate) struct Node {
    pub data_dir: PathBuf,
    pub runtime: Runtime,
    pods: AtomicU32,
    attempts: AtomicU32,
}

impl Node {
    pub(crate) async fn open(name: &str) -> Node {
        let data_dir = std::env::temp_dir().join(format!("combo-{name}-{}", std::process::id()));
        Node::open_at(data_dir, name).await
    }

    pub(crate) async fn open_at(data_dir: PathBuf, name: &str) -> Node {
        std::fs::create_dir_all(&data_dir).unwrap();
        let options = RuntimeOptions {
            instance: format!("combo-test-{name}"),
            cgroup_parent: "/".to_owned(),
            images: Arc::new(Busybox {
                root: data_dir.join("rootfs"),
            }),
            network: Arc::new(OneAddress),
            clock: SystemClock::shared(),
            rng: SystemRng::shared(),
            log_limits: LogLimits {
                bytes_max: 100_000,
                files_max: 3,
            },
            version: "test".to_owned(),
            data_dir: data_dir.clone(),
        };
        let runtime = Runtime::open(options).await.unwrap();
        Node {
            data_dir,
            runtime,
            pods: AtomicU32::new(0),
            attempts: AtomicU32::new(0),
        }
    }

    pub(crate) async fn close(self) {
        self.runtime.clean_up().await.unwrap();
        std::fs::remove_dir_all(&self.data_dir).unwrap();
    }

    pub(crate) fn pod(&self) -> PodSandboxConfig {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        PodSandboxConfig {
            pod: PodIdentity {
                uid: format!("uid-{number}"),
                name: format!("pod-{number}"),
                namespace: "default".to_owned(),
            },
            hostname: format!("host-{number}"),
            log_directory: self.data_dir.join(format!("logs/pod-{number}")),
            ..Default::default()
        }
    }

    pub(crate) async fn sandbox(&self) -> PodSandboxId {
        self.runtime.run_pod_sandbox(self.pod()).await.unwrap()
    }

    /// Creates and starts a container.
    pub(crate) async fn start(
        &self,
        sandbox: &PodSandboxId,
        mut config: ContainerConfig,
    ) -> ContainerId {
        config.attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        config.log_path = PathBuf::from(format!("{}/{}.log", config.name, config.attempt));
        let id = self
            .runtime
            .create_container(sandbox, config)
            .await
            .unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    /// Runs a container to its end: exit code, reason and what it wrote to standard output.
    pub(crate) async fn run(&self, sandbox: &PodSandboxId, config: ContainerConfig) -> Outcome {
        let id = self.start(sandbox, config).await;
        self.outcome(&id).await
    }

    pub(crate) async fn outcome(&self, id: &ContainerId) -> Outcome {
        let (code, reason) = self.exit(id).await;
        let status = self.runtime.container_status(id).await.unwrap();
        let log = std::fs::read_to_string(&status.log_path).unwrap_or_default();
        let message = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
        Outcome {
            code,
            reason,
            lines: log.lines().map(message).collect(),
        }
    }

    pub(crate) async fn exit(&self, id: &ContainerId) -> (i32, ExitReason) {
        eventually(|| async {
            match self.runtime.container_status(id).await.unwrap().state {
                ContainerState::Exited {
                    exit_code, reason, ..
                } => Some((exit_code, reason)),
                _ => None,
            }
        })
        .await
    }

    /// Runs a command in a container: exit code and standard output, trimmed.
    pub(crate) async fn exec(&self, id: &ContainerId, command: &[&str]) -> (i32, String) {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let output = self
            .runtime
            .exec_sync(id, command, Some(PATIENCE))
            .await
            .unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.exit_code, text.trim().to_owned())
    }

    /// The shim of a sandbox, as it says itself.
    pub(crate) fn shim_pid(&self, sandbox: &PodSandboxId) -> i32 {
        let ready = self
            .data_dir
            .join("run/sandboxes")
            .join(&sandbox.0)
            .join("ready.json");
        let ready: serde_json::Value =
            serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        i32::try_from(ready["pid"].as_i64().unwrap()).unwrap()
    }

    pub(crate) async fn sh(&self, id: &ContainerId, script: &str) -> String {
        self.exec(id, &["sh", "-c", script]).await.1
    }
}

/// How a container ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub code: i32,
    pub reason: ExitReason,
    pub lines: Vec<String>,
}

impl Outcome {
    /// The value behind a name of /proc/self/status.
    pub(crate) fn status_field(&self, name: &str) -> String {
        let line = self
            .lines
            .iter()
            .find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Waits until a condition gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A container that runs a script.
pub(crate) fn script(text: &str) -> ContainerConfig {
    command(&["sh", "-c", text])
}

pub(crate) fn command(words: &[&str]) -> ContainerConfig {
    ContainerConfig {
        name: "app".to_owned(),
        image: "busybox".to_owned(),
        image_id: ImageId("busybox".to_owned()),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        log_path: PathBuf::from("app/0.log"),
        ..Default::default()
    }
}

/// Each container gets a directory with busybox in it.
struct Busybox {
    root: PathBuf,
}

impl Busybox {
    fn unpack(&self, path: &Path) -> std::io::Result<()> {
        for directory in [
            "bin", "etc", "tmp", "root", "proc", "sys", "dev", "home/app",
        ] {
            std::fs::create_dir_all(path.join(directory))?;
        }
        let shared = self.root.join("busybox");
        if !shared.exists() {
            std::fs::copy(BUSYBOX, &shared)?;
        }
        drop(std::fs::hard_link(&shared, path.join("bin/busybox")));
        for applet in APPLETS.split_whitespace() {
            drop(symlink("busybox", path.join("bin").join(applet)));
        }
        std::fs::write(
            path.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n",
        )?;
        std::fs::write(
            path.join("etc/group"),
            "root:x:0:\napp:x:1000:\nextra:x:50:app\n",
        )
    }
}

#[async_trait]
impl ImageService for Busybox {
    async fn pull_image(&self, image: &ImageSpec, _auth: Option<&PullAuth>) -> Result<ImageId> {
        Ok(ImageId(image.reference.clone()))
    }

    async fn image_status(&self, _reference: &str) -> Result<Option<Image>> {
        Ok(None)
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    async fn remove_image(&self, _image: &ImageId) -> Result<()> {
        Ok(())
    }

    async fn fs_info(&self) -> Result<ImageFilesystems> {
        let none = FilesystemUsage::default();
        Ok(ImageFilesystems {
            images: none.clone(),
            containers: none,
        })
    }

    async fn prepare_rootfs(&self, _image: &ImageId, container: &ContainerId) -> Result<RootFs> {
        let path = self.root.join(&container.0);
        self.unpack(&path).unwrap();
        Ok(RootFs {
            path,
            config: ImageConfig::default(),
        })
    }

    async fn remove_rootfs(&self, container: &ContainerId) -> Result<()> {
        drop(std::fs::remove_dir_all(self.root.join(&container.0)));
        Ok(())
    }

    async fn rootfs_usage(&self, _container: &ContainerId) -> Result<FilesystemUsage> {
        Ok(FilesystemUsage::default())
    }
}

struct OneAddress;

#[async_trait]
impl SandboxNetwork for OneAddress {
    async fn attach(&self, _attachment: NetworkAttachment<'_>) -> Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([10, 42, 0, 2])])
    }

    async fn detach(&self, _pod_uid: &str) -> Result<()> {
        Ok(())
    }

    async fn existing(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
