//! Clusters of several nodes: each in a network namespace of its own, all at one switch, and nothing of it on the host's network.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use linux::NetworkNamespace;

use crate::support::host::Traces;
use crate::support::kubectl::is_ready;
use crate::support::server::{STOP_LIMIT, combo, import_images_with, stop, work_dir};
use crate::support::{Kubectl, eventually, within};

/// The link that every node has, and its network's first three numbers.
pub(crate) const LINK: &str = "eth0";
const NETWORK: &str = "10.99.0";
const API_PORT: u16 = 6443;

/// A machine's network: one link, to the switch of its cluster.
pub(crate) struct Place {
    namespace: NetworkNamespace,
    pub(crate) address: String,
}

impl Place {
    /// The way into a namespace for programs, as long as this process holds it.
    fn path(namespace: &NetworkNamespace) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
    }

    fn at(switch: &NetworkNamespace, number: usize) -> Self {
        let namespace = NetworkNamespace::create().expect("a network namespace");
        let address = format!("{NETWORK}.{number}");
        let own = Self::path(&namespace);
        ok_in(
            switch,
            &format!(
                "ip link add port{number} type veth peer name {LINK} netns {own}
                ip link set port{number} master switch up"
            ),
        );
        ok_in(
            &namespace,
            &format!(
                "ip link set lo up; ip link set {LINK} up
                ip address add {address}/24 dev {LINK}"
            ),
        );
        Self { namespace, address }
    }

    /// Runs on a thread inside.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).expect("it can be entered")
    }

    /// What a shell script that must succeed prints.
    pub(crate) fn ok(&self, script: &str) -> String {
        ok_in(&self.namespace, script)
    }

    /// The words that run a program inside. (`ip netns exec` would hide the control groups.)
    fn runner(&self) -> Vec<OsString> {
        runner(&self.namespace)
    }

    fn combo(&self) -> Command {
        self.program(combo())
    }

    pub(crate) fn program(&self, program: &Path) -> Command {
        let runner = self.runner();
        let mut command = Command::new(&runner[0]);
        command.args(&runner[1..]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn kubectl(&self, kubeconfig: &Path) -> Kubectl {
        Kubectl::behind(&self.runner(), kubeconfig)
    }
}

fn runner(namespace: &NetworkNamespace) -> Vec<OsString> {
    let net = format!("--net={}", Place::path(namespace));
    vec!["nsenter".into(), net.into()]
}

fn ok_in(namespace: &NetworkNamespace, script: &str) -> String {
    let runner = runner(namespace);
    let mut command = Command::new(&runner[0]);
    command.args(&runner[1..]).args(["sh", "-ec", script]);
    let done = command.output().expect("nsenter of util-linux");
    assert!(done.status.success(), "{script}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A server or an agent.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) data_dir: PathBuf,
    log: PathBuf,
    /// A build of its own, if one was installed.
    installed: Mutex<Option<PathBuf>>,
    arguments: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Node {
    fn new(cluster: &str, name: &str, place: Place, mode: &str, arguments: &[&str]) -> Self {
        let data_dir = work_dir().join(format!("{cluster}-{name}"));
        fs::create_dir_all(&data_dir).expect("a data folder is made");
        let folder = data_dir.to_str().expect("UTF-8");
        let words = [mode, "--data-dir", folder, "--node-name", name];
        let words = words.iter().chain(arguments);
        Self {
            name: name.to_owned(),
            place,
            log: work_dir().join(format!("{cluster}-{name}.log")),
            arguments: words.map(|&word| word.to_owned()).collect(),
            installed: Mutex::new(None),
            process: Mutex::new(None),
            data_dir,
        }
    }

    pub(crate) fn has_pods(&self) -> bool {
        !self.arguments.iter().any(|flag| flag == "--disable-agent")
    }

    /// Starts the process, and waits for nothing.
    pub(crate) fn run(&self) {
        self.run_with(&[]);
    }

    /// The same with variables in its environment.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)]) {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("a log file");
        let mut command = self.place.program(&self.program());
        command
            .args(&self.arguments)
            .envs(variables.iter().copied())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        let child = command.spawn().expect("combo starts");
        let before = self.process().replace(child);
        assert!(before.is_none(), "{} ran already", self.name);
    }

    fn program(&self) -> PathBuf {
        let installed = self.installed.lock().expect("no panic").clone();
        installed.unwrap_or_else(|| combo().to_owned())
    }

    /// From its next start on this build runs here, at the place of the one before.
    pub(crate) fn install(&self, build: &Path) {
        let place = self.data_dir.with_extension("combo");
        let fresh = place.with_extension("fresh");
        fs::copy(build, &fresh).expect("it is copied");
        fs::rename(&fresh, &place).expect("it is renamed");
        *self.installed.lock().expect("no panic") = Some(place);
    }

    /// Ends the process as a service manager does; pods run on.
    pub(crate) fn end(&self) {
        let child = self.process().take().expect("it runs");
        let status = stop(child);
        assert!(
            status.signal().is_none(),
            "SIGTERM did not stop {}",
            self.name
        );
    }

    /// `kill -9`; what it left stays.
    pub(crate) fn kill(&self) {
        let mut child = self.process().take().expect("it runs");
        child.kill().expect("it is killed");
        child.wait().expect("a child");
    }

    /// What runs here is gone at once, and what the kernel had of it; what is on the disk stays.
    pub(crate) fn cut_power(&self) {
        let mut child = self.process().take().expect("it runs");
        child.kill().expect("it is killed");
        child.wait().expect("a child");
        let done = self.clean_up();
        assert!(done.status.success(), "combo killall: {done:?}");
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails the test if the process has ended.
    fn assert_alive(&self) {
        let ended = self
            .process()
            .as_mut()
            .and_then(|child| child.try_wait().expect("a child"));
        assert!(
            ended.is_none(),
            "{} ended ({ended:?}):\n{}",
            self.name,
            self.log()
        );
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A file that the node keeps of its joining.
    pub(crate) fn joined(&self, file: &str) -> PathBuf {
        self.data_dir.join("agent").join(file)
    }

    fn clean_up(&self) -> Output {
        let mut command = self.place.combo();
        command.args(["killall", "-d"]).arg(&self.data_dir);
        command.output().expect("combo runs")
    }

    /// Stops it, cleans up, and proves that nothing is left on the host, nor in the node's network.
    pub(crate) fn tear_down(&self) {
        let child = self.process().take();
        if let Some(status) = child.map(stop) {
            let name = &self.name;
            assert!(
                status.signal().is_none(),
                "SIGTERM did not stop {name} in {STOP_LIMIT:?}"
            );
        }
        let done = self.clean_up();
        assert!(done.status.success(), "combo killall: {done:?}");
        within(STOP_LIMIT, "nothing is left", || {
            Traces::of(&self.data_dir, None).is_empty().then_some(())
        });
        let links = self.place.ok("ip -o link | grep -vE ' (lo|eth0)[:@]' || :");
        let tables = self.place.ok("nft list tables | grep -v ' wall$' || :");
        assert_eq!((links.as_str(), tables.as_str()), ("", ""), "{}", self.name);
    }
}

impl Drop for Node {
    /// Of a test that failed half way.
    fn drop(&mut self) {
        if let Some(mut child) = self.process().take() {
            drop(child.kill());
            drop(child.wait());
            drop(self.clean_up());
        }
    }
}

/// A server, its agents, and a place for somebody who has not joined.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) server: Node,
    pub(crate) agents: Vec<Node>,
    pub(crate) guest: Place,
    kubeconfig: PathBuf,
    /// How long the agents took from their start until all were Ready.
    pub(crate) joining: Duration,
    /// Its links end with it.
    switch: NetworkNamespace,
}

impl Cluster {
    /// Starts a server with these flags and agents of these names, and waits until all nodes are ready.
    pub(crate) fn start(name: &str, flags: &[&str], agents: &[&str]) -> Self {
        let mut cluster = Self::prepare(name, flags, agents);
        cluster.run();
        cluster
    }

    /// The same; these flags are the agents'.
    pub(crate) fn start_with(
        name: &str,
        flags: &[&str],
        agents: &[&str],
        agent_flags: &[&str],
    ) -> Self {
        let mut cluster = Self::prepare_with(name, flags, agents, agent_flags);
        cluster.run();
        cluster
    }

    /// A cluster that does not run yet.
    pub(crate) fn prepare(name: &str, flags: &[&str], agents: &[&str]) -> Self {
        Self::prepare_with(name, flags, agents, &[])
    }

    fn prepare_with(name: &str, flags: &[&str], agents: &[&str], agent_flags: &[&str]) -> Self {
        let switch = NetworkNamespace::create().expect("a network namespace");
        let links = "ip link add switch type bridge; ip link set lo up; ip link set switch up";
        ok_in(&switch, links);
        let kubeconfig = work_dir().join(format!("{name}.kubeconfig"));
        let mut flags = flags.to_vec();
        flags.extend(["--write-kubeconfig", kubeconfig.to_str().expect("UTF-8")]);
        let place = Place::at(&switch, 1);
        let url = format!("https://{}:{API_PORT}", place.address);
        let server = Node::new(name, "server", place, "server", &flags);
        let token = server.data_dir.join("server/agent-token");
        let join = [
            "--server",
            &url,
            "--token-file",
            token.to_str().expect("UTF-8"),
        ];
        let join = [&join[..], agent_flags].concat();
        let agents = agents.iter().zip(2..).map(|(agent, number)| {
            Node::new(name, agent, Place::at(&switch, number), "agent", &join)
        });
        Self {
            name: name.to_owned(),
            server,
            agents: agents.collect(),
            guest: Place::at(&switch, 99),
            kubeconfig,
            joining: Duration::ZERO,
            switch,
        }
    }

    /// One more agent, which does not run yet.
    pub(crate) fn prepare_agent(&mut self, name: &str, flags: &[&str]) -> &Node {
        let number = self.agents.len() + 2;
        let place = Place::at(&self.switch, number);
        let (url, token) = (self.url(), self.server.data_dir.join("server/agent-token"));
        let token = token.to_str().expect("UTF-8");
        let join = ["--server", &url, "--token-file", token];
        let node = Node::new(&self.name, name, place, "agent", &[&join, flags].concat());
        import_images_with(&node.program(), &node.data_dir);
        self.agents.push(node);
        self.agent(name)
    }

    /// One more server, which does not run yet; others' folders are not its own.
    pub(crate) fn prepare_server(&self, name: &str, number: usize, flags: &[&str]) -> Node {
        let place = Place::at(&self.switch, number);
        Node::new(&self.name, name, place, "server", flags)
    }

    /// One more agent with these flags, which does not run yet.
    pub(crate) fn prepare_agent_at(&self, name: &str, number: usize, flags: &[&str]) -> Node {
        let place = Place::at(&self.switch, number);
        Node::new(&self.name, name, place, "agent", flags)
    }

    /// A machine of the same network for something else.
    pub(crate) fn place(&self, number: usize) -> Place {
        Place::at(&self.switch, number)
    }

    /// Waits until the server answers those who have its kubeconfig.
    pub(crate) fn wait_api(&self) {
        eventually("the server's /readyz", || {
            self.server.assert_alive();
            self.kubeconfig.exists().then_some(())?;
            let answer = self.kubectl().run(&["get", "--raw", "/readyz"]);
            answer.status.success().then_some(())
        });
    }

    /// Waits until the node of this agent, or of the server, is Ready.
    pub(crate) fn wait_ready(&self, node: &Node) {
        eventually(&format!("the node {} is Ready", node.name), || {
            node.assert_alive();
            self.kubectl().find("node", &node.name).filter(is_ready)
        });
    }

    /// Starts all, and waits until all nodes are ready.
    pub(crate) fn run(&mut self) {
        self.nodes()
            .for_each(|node| import_images_with(&node.program(), &node.data_dir));
        self.server.run();
        self.wait_api();
        let begun = Instant::now();
        self.agents.iter().for_each(Node::run);
        self.nodes().for_each(|node| self.wait_ready(node));
        self.joining = begun.elapsed();
    }

    /// The server, then the agents.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.server).chain(&self.agents)
    }

    /// All that run pods.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.all().filter(|node| node.has_pods())
    }

    pub(crate) fn agent(&self, name: &str) -> &Node {
        let mut agents = self.agents.iter();
        agents.find(|node| node.name == name).expect("an agent")
    }

    /// The server as agents are told it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{API_PORT}", self.server.place.address)
    }

    /// The stock kubectl at the server, as the administrator.
    pub(crate) fn kubectl(&self) -> Kubectl {
        self.server.place.kubectl(&self.kubeconfig)
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Tries to join from the guest's place until the agent gives up or `PATIENCE` ends.
    pub(crate) fn try_to_join(&self, arguments: &[&str]) -> Output {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        // Each with a key of its own.
        let number = TRIES.fetch_add(1, Ordering::Relaxed);
        let data_dir = work_dir().join(format!("{}-guest-{number}", self.name));
        let mut command = self.guest.combo();
        command.args(["agent", "--server", &self.url(), "--data-dir"]);
        command.arg(&data_dir).args(arguments);
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("combo starts");
        eventually("a refused agent ends", || {
            child.try_wait().expect("a child")
        });
        let output = child.wait_with_output().expect("a child");
        let traces = Traces::of(&data_dir, None);
        assert!(traces.is_empty(), "of one that did not join: {traces:?}");
        output
    }

    pub(crate) fn tear_down(&self) {
        self.agents.iter().for_each(Node::tear_down);
        self.server.tear_down();
    }
}
