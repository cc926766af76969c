//! The servers that are compared: a store of ours behind etcd's API, etcd, and kine, each a process of its own, durable as it comes.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use etcd::{Door, Identity};
use sqlite::{Options, SqliteKv};
use tokio::net::TcpListener;

use super::puts;
use super::wire::Wire;
use crate::wait;

/// The word that makes this program the server: between us only.
pub(crate) const SERVE: &str = "__serve-store";
const START_MAX: Duration = Duration::from_secs(60);
/// As `combo server` does it.
const WORKERS_MAX: usize = 4;

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// A store of ours in `folder`.
    pub(crate) async fn own(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(SERVE)
            .arg(folder.join("state.db"))
            .arg(port.to_string());
        Self::start(command, folder, port).await
    }

    pub(crate) async fn etcd(binary: &Path, folder: &Path, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", port + 1);
        command
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args(["--name", "bench", "--log-level", "warn"])
            .args(["--quota-backend-bytes", "8589934592"])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("bench={peer}")]);
        Self::start(command, folder, port).await
    }

    /// kine as it comes: with SQLite, which in its mode loses the newest writes when the power fails.
    pub(crate) async fn kine(binary: &Path, folder: &Path, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command
            .current_dir(folder)
            .args(["--listen-address", &format!("tcp://127.0.0.1:{port}")])
            .args(["--metrics-bind-address", "0"]);
        Self::start(command, folder, port).await
    }

    async fn start(mut command: Command, folder: &Path, port: u16) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let log = File::create(folder.join("log"))?;
        command
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let server = Self { child, port };
        let answers = async || match Wire::connect(port).await {
            Ok(mut wire) => puts::create(&mut wire).await.is_ok(),
            Err(_) => false,
        };
        wait::until("a store that answers", START_MAX, answers).await?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it well: our store's process ends with its input.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Serves a store to whoever reaches the port, until whoever started this closes its input.
pub(crate) fn serve(file: &Path, port: &str) -> anyhow::Result<()> {
    let port: u16 = port.parse().context("the port is a number")?;
    let workers = std::thread::available_parallelism()?.get().min(WORKERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()?;
    let (trigger, shutdown) = env::Shutdown::new();
    let store = SqliteKv::open(file, Options::default())?;
    let kv = Arc::clone(&store);
    let server = runtime.spawn(async move {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://127.0.0.1:{port}");
        let identity = Identity::derived(b"bench", "bench", vec![url]);
        etcd::serve(kv, identity, listener, Door::Open, shutdown).await;
        anyhow::Ok(())
    });
    let input = std::thread::spawn(move || {
        let _closed = std::io::stdin().read_to_end(&mut Vec::new());
        trigger.trigger();
    });
    runtime.block_on(server)??;
    runtime.block_on(store.close())?;
    drop(input);
    Ok(())
}
