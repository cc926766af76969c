//! An etcd of one member on loopback, which does not wait for its disk.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{Client, pb};

/// A server is there within this time.
const START_TIME_MAX: Duration = Duration::from_secs(30);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Killed when it is dropped; what it stored stays.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    pub port: u16,
    peer_port: u16,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Names a real etcd for the tests that want one; `tests/etcd.sh` prints its path.
const PROGRAM: &str = "COMBO_ETCD";

impl Etcd {
    /// Starts the etcd that the variable `COMBO_ETCD` names; `None` if it names none.
    pub fn named(folder: &Path) -> Option<anyhow::Result<Self>> {
        let program = std::env::var_os(PROGRAM)?;
        Some(Self::start(Path::new(&program), folder))
    }

    /// Starts the program on what a folder has, which may be nothing yet.
    pub fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let (port, peer_port) = (free_port()?, free_port()?);
        let (own, peers) = (url(port), url(peer_port));
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(folder)
            .args(["--unsafe-no-fsync", "--log-level", "error"])
            .args(["--listen-client-urls", &own])
            .args(["--advertise-client-urls", &own])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self {
            child,
            port,
            peer_port,
        })
    }

    pub fn url(&self) -> String {
        url(self.port)
    }

    pub fn peer_url(&self) -> String {
        url(self.peer_port)
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The first connection over which it answers.
    pub async fn ready(&mut self) -> anyhow::Result<Client> {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            if let Ok(client) = Client::connect(self.port).await {
                let request = pb::RangeRequest {
                    key: b"ready".to_vec(),
                    ..Default::default()
                };
                if client.call(request).await.is_ok() {
                    return Ok(client);
                }
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("etcd ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("{} is not there after {START_TIME_MAX:?}", self.url());
            }
            env::sleep(TRY_AGAIN_AFTER).await;
        }
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
