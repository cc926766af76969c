//! The process of the server: started, killed, started again.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::model::Leases;
use crate::server::Plant;

/// A server is there within this time.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// How a server is started, each time in the same way.
pub(crate) struct Start {
    pub(crate) file: PathBuf,
    pub(crate) port: u16,
    pub(crate) leases: Leases,
    pub(crate) plant: Plant,
}

/// Killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    /// What it began with.
    pub(crate) revision: i64,
}

impl Start {
    pub(crate) async fn run(&self) -> anyhow::Result<Running> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(&self.file)
            .arg(self.port.to_string())
            .arg(match self.leases {
                Leases::Strict => "strict",
                Leases::Relaxed => "relaxed",
            })
            .arg(self.plant.name())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the server")?;
        let stdout = child.stdout.take().context("the output is a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = env::timeout(START_TIME_MAX, lines.next_line()).await;
        let Ok(line) = line else {
            bail!("the server is not there after {START_TIME_MAX:?}");
        };
        let line = line?.context("the server ended instead of starting")?;
        let revision = line.parse().context("the server prints its revision")?;
        Ok(Running { child, revision })
    }
}

impl Running {
    /// Ends it with SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("kill the server")
    }
}
