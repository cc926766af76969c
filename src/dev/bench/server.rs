//! A Combo server under measurement, with a data folder, ports and addresses of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube_client::Kubeconfig;

use super::Bench;
use super::load::Connection;
use super::report::{AtMost, Report, median};
use super::wait::is_ready;

const STARTS: usize = 3;
const START_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);
pub(crate) const NODE: &str = "bench";

/// What of Combo runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    All,
    /// What upstream's etcd and kube-apiserver are together.
    ApiServer,
}

pub(crate) struct Server {
    pub(crate) data_dir: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    binary: PathBuf,
    child: Child,
    pub(crate) started: Instant,
}

impl Server {
    pub(crate) fn start(bench: &Bench, name: &str, parts: Parts) -> anyhow::Result<Self> {
        let data_dir = bench.folder.path().join(name);
        std::fs::create_dir_all(&data_dir)?;
        let kubeconfig = bench.folder.path().join(format!("{name}.kubeconfig"));
        let log = File::create(bench.folder.path().join(format!("{name}.log")))?;
        let mut command = Command::new(&bench.binary);
        command
            .arg("server")
            .arg("--data-dir")
            .arg(&data_dir)
            .arg("--write-kubeconfig")
            .arg(&kubeconfig);
        command.args([
            "--https-listen-port",
            "26443",
            "--kubelet-port",
            "26250",
            "--node-name",
            NODE,
        ]);
        command.args([
            "--cluster-cidr",
            "10.66.0.0/16",
            "--service-cidr",
            "10.67.0.0/16",
        ]);
        command.args(["--service-node-port-range", "32100-32199"]);
        if parts == Parts::ApiServer {
            command.args([
                "--disable-agent",
                "--disable-controller-manager",
                "--disable-scheduler",
            ]);
        }
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start combo")?;
        Ok(Self {
            data_dir,
            kubeconfig,
            binary: bench.binary.clone(),
            child,
            started,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection, as the administrator; waits for the kubeconfig.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let deadline = self.started + START_LIMIT;
        let config = loop {
            match Kubeconfig::read(&self.kubeconfig) {
                Ok(config) => break config,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("no kubeconfig");
                }
                Err(_) => env::sleep(LOOK_EVERY).await,
            }
        };
        Connection::new(&config.http_config("", "combo-bench")?)
    }

    /// The time from exec until /readyz says ok.
    pub(crate) async fn ready(&self) -> anyhow::Result<Duration> {
        let connection = self.connect().await?;
        self.until(|| async { connection.get("/readyz").await.is_ok() })
            .await
    }

    /// The time from exec until the node is Ready.
    pub(crate) async fn node_ready(&self) -> anyhow::Result<Duration> {
        let connection = self.connect().await?;
        let path = format!("/api/v1/nodes/{NODE}");
        self.until(|| async { is_ready(&connection.get_json(&path).await.unwrap_or_default()) })
            .await
    }

    async fn until<F: Future<Output = bool>>(
        &self,
        condition: impl Fn() -> F,
    ) -> anyhow::Result<Duration> {
        while !condition().await {
            if self.started.elapsed() > START_LIMIT {
                bail!("the server did not start in {START_LIMIT:?}");
            }
            env::sleep(LOOK_EVERY).await;
        }
        Ok(self.started.elapsed())
    }

    pub(crate) fn combo(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let done = Command::new(&self.binary)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .output()?;
        if !done.status.success() {
            bail!(
                "combo {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&done.stderr)
            );
        }
        Ok(())
    }
}

impl Drop for Server {
    /// Nothing of it stays, also when a measurement failed.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        let folder: &Path = &self.data_dir;
        if let Err(error) = self.combo(&["killall", "--data-dir", &folder.display().to_string()]) {
            eprintln!("clean up: {error:#}");
        }
    }
}

/// exec → /readyz and exec → node Ready, on an empty data folder and again on the one that the first start made.
pub(crate) async fn measure_start(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let (mut first, mut again, mut node) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..STARTS {
        let name = format!("start{round}");
        for times in [&mut first, &mut again] {
            let server = Server::start(bench, &name, Parts::All)?;
            times.push(server.ready().await?.as_secs_f64());
            node.push(server.node_ready().await?.as_secs_f64());
        }
    }
    report.figure(
        "exec → /readyz, empty data folder",
        median(first),
        "s",
        AtMost(1.0),
    );
    report.figure(
        "exec → /readyz, existing data folder",
        median(again),
        "s",
        AtMost(1.0),
    );
    report.figure("exec → node Ready", median(node), "s", AtMost(3.0));
    Ok(())
}
