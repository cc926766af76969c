//! Clusters of several machines under measurement: each a network namespace of its own, all at one switch, none on the host's network.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use kube_client::{Kubeconfig, Route};
use linux::NetworkNamespace;
use testkit::Image;
use tokio::net::TcpStream;

use super::Bench;
use super::load::Connection;
use super::wait::{START_MAX, is_ready, until};

/// The link that every machine has, and its network's first three numbers.
const LINK: &str = "eth0";
const NETWORK: &str = "10.98.0";
const API_PORT: u16 = 6443;
pub(crate) const SERVER: &str = "server";
/// The image of what pods run.
pub(crate) const IMAGE: &str = "combo.io/sample/webserver:1";

/// What joins the machines of a cluster. Its links end with it.
pub(crate) struct Switch(NetworkNamespace);

impl Switch {
    fn new() -> anyhow::Result<Self> {
        let namespace = NetworkNamespace::create()?;
        let links = "ip link add switch type bridge; ip link set lo up; ip link set switch up";
        shell(&namespace, links)?;
        Ok(Self(namespace))
    }
}

/// A machine's network.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) namespace: Arc<NetworkNamespace>,
    pub(crate) address: String,
}

impl Machine {
    fn at(switch: &Switch, number: usize) -> anyhow::Result<Self> {
        let namespace = NetworkNamespace::create()?;
        let address = format!("{NETWORK}.{number}");
        let place = way_into(&namespace);
        let plug = format!(
            "ip link add port{number} type veth peer name {LINK} netns {place}
            ip link set port{number} master switch up"
        );
        shell(&switch.0, &plug)?;
        let set_up = format!(
            "ip link set lo up; ip link set {LINK} up; ip address add {address}/24 dev {LINK}"
        );
        shell(&namespace, &set_up)?;
        Ok(Self {
            namespace: Arc::new(namespace),
            address,
        })
    }
}

/// Two machines with nothing but a cable between them.
pub(crate) fn cabled() -> anyhow::Result<[Machine; 2]> {
    let [one, two] = [NetworkNamespace::create()?, NetworkNamespace::create()?];
    let place = way_into(&two);
    shell(
        &one,
        &format!("ip link add {LINK} type veth peer name {LINK} netns {place}"),
    )?;
    let mut machines = Vec::new();
    for (namespace, number) in [(one, 1), (two, 2)] {
        let address = format!("{NETWORK}.{number}");
        shell(
            &namespace,
            &format!(
                "ip link set lo up; ip link set {LINK} up; ip address add {address}/24 dev {LINK}"
            ),
        )?;
        machines.push(Machine {
            namespace: Arc::new(namespace),
            address,
        });
    }
    let machines = machines.try_into();
    machines.map_err(|_other_count| anyhow::anyhow!("two machines were made"))
}

/// The way into a namespace for programs, as long as this process holds it.
fn way_into(namespace: &NetworkNamespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

/// A command that runs inside. (`ip netns exec` would hide the control groups.)
fn command_in(namespace: &NetworkNamespace, program: impl Into<OsString>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", way_into(namespace)));
    command.arg(program.into()).stdin(Stdio::null());
    command
}

fn shell(namespace: &NetworkNamespace, script: &str) -> anyhow::Result<()> {
    run(command_in(namespace, "sh").args(["-ec", script]))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = command.output().context("nsenter of util-linux")?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        bail!("{command:?}: {said}");
    }
    Ok(())
}

/// Connections begin inside a machine.
#[derive(Debug)]
struct Inside(Arc<NetworkNamespace>);

#[async_trait]
impl Route for Inside {
    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let connect = || StdTcpStream::connect((host, port));
        let stream = self.0.run(connect)??;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// A server's or an agent's process on its machine.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    pub(crate) data_dir: PathBuf,
    binary: PathBuf,
    child: Child,
}

impl Process {
    fn start(
        bench: &Bench,
        data_dir: PathBuf,
        machine: Machine,
        mode: &str,
        name: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let log = File::create(data_dir.with_extension("log"))?;
        let mut command = command_in(&machine.namespace, &bench.binary);
        command
            .args([mode, "--node-name", name, "--data-dir"])
            .arg(&data_dir)
            .args(arguments)
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().context("nsenter of util-linux")?;
        Ok(Self {
            name: name.to_owned(),
            machine,
            data_dir,
            binary: bench.binary.clone(),
            child,
        })
    }

    /// That of combo: entering a namespace starts no other process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    /// Nothing of it stays, also when a measurement failed.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        let mut command = command_in(&self.machine.namespace, &self.binary);
        if let Err(error) = run(command.args(["killall", "--data-dir"]).arg(&self.data_dir)) {
            eprintln!("clean up: {error:#}");
        }
    }
}

/// A server with its own node, and what joined it.
pub(crate) struct Cluster {
    pub(crate) connection: Connection,
    pub(crate) server: Process,
    name: String,
    switch: Switch,
    images: PathBuf,
    machines: usize,
}

impl Cluster {
    /// Starts a server with these flags, and waits for its node.
    pub(crate) async fn start(bench: &Bench, name: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let images = bench.folder.path().join(format!("{name}-images.tar"));
        Image::of_binary(&bench.webserver)?.write(IMAGE, &images)?;
        let switch = Switch::new()?;
        let machine = Machine::at(&switch, 1)?;
        let kubeconfig = bench.folder.path().join(format!("{name}.kubeconfig"));
        let file = kubeconfig.display().to_string();
        let flags = [flags, &["--write-kubeconfig", &file]].concat();
        let data_dir = new_data_dir(bench, name, SERVER, &images)?;
        let server = Process::start(bench, data_dir, machine, "server", SERVER, &flags)?;
        until("the server writes its kubeconfig", START_MAX, || async {
            Kubeconfig::read(&kubeconfig).is_ok()
        })
        .await?;
        let connection = connect_inside(&kubeconfig, &server.machine)?;
        let cluster = Self {
            connection,
            server,
            name: name.to_owned(),
            switch,
            images,
            machines: 1,
        };
        cluster.node_ready(SERVER).await?;
        Ok(cluster)
    }

    /// A machine that has the images, and on which nothing runs yet.
    pub(crate) fn prepare(&mut self, bench: &Bench, name: &str) -> anyhow::Result<Prepared> {
        self.machines += 1;
        Ok(Prepared {
            machine: Machine::at(&self.switch, self.machines)?,
            data_dir: new_data_dir(bench, &self.name, name, &self.images)?,
            name: name.to_owned(),
            server: format!("https://{}:{API_PORT}", self.server.machine.address),
            token: self.server.data_dir.join("server/agent-token"),
        })
    }

    /// An agent whose node is Ready.
    pub(crate) async fn join(&mut self, bench: &Bench, name: &str) -> anyhow::Result<Process> {
        let agent = self.prepare(bench, name)?.start(bench)?;
        self.node_ready(name).await?;
        Ok(agent)
    }

    /// Returns how long it took until the node was Ready.
    pub(crate) async fn node_ready(&self, name: &str) -> anyhow::Result<Duration> {
        let path = format!("/api/v1/nodes/{name}");
        until(&format!("the node {name} is Ready"), START_MAX, || async {
            is_ready(&self.connection.get_json(&path).await.unwrap_or_default())
        })
        .await
    }
}

/// What is needed to start an agent.
pub(crate) struct Prepared {
    machine: Machine,
    data_dir: PathBuf,
    name: String,
    server: String,
    token: PathBuf,
}

impl Prepared {
    pub(crate) fn start(self, bench: &Bench) -> anyhow::Result<Process> {
        let token = self.token.display().to_string();
        let join = ["--server", &self.server, "--token-file", &token];
        Process::start(
            bench,
            self.data_dir,
            self.machine,
            "agent",
            &self.name,
            &join,
        )
    }
}

/// A data folder with the images in it.
fn new_data_dir(
    bench: &Bench,
    cluster: &str,
    node: &str,
    images: &Path,
) -> anyhow::Result<PathBuf> {
    let data_dir = bench.folder.path().join(format!("{cluster}-{node}"));
    std::fs::create_dir_all(&data_dir)?;
    let mut import = Command::new(&bench.binary);
    import.args(["image", "import", "--data-dir"]);
    run(import.arg(&data_dir).arg(images))?;
    Ok(data_dir)
}

/// A connection as the administrator that begins on a machine.
fn connect_inside(kubeconfig: &Path, machine: &Machine) -> anyhow::Result<Connection> {
    let mut config = Kubeconfig::read(kubeconfig)?.http_config("", "combo-bench")?;
    config.route = Arc::new(Inside(machine.namespace.clone()));
    Connection::new(&config)
}
