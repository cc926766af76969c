//! A real server of the binary under test, with a data folder, ports and addresses of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::Traces;
use crate::support::http::Http;
use crate::support::images::archives;
use crate::support::{Kubectl, eventually, within};

/// Names another binary than the one cargo built for these tests.
const BINARY: &str = "COMBO_E2E_BINARY";
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(20);
const FOLDER: &str = "combo-e2e-";

/// The binary under test: a link of this run's own, so that a build beside it changes nothing.
pub(crate) fn combo() -> &'static Path {
    static LINK: OnceLock<PathBuf> = OnceLock::new();
    LINK.get_or_init(|| {
        let binary = std::env::var_os(BINARY)
            .map_or_else(|| env!("CARGO_BIN_EXE_combo").into(), PathBuf::from);
        let link = binary.with_file_name(format!("{FOLDER}{}", std::process::id()));
        fs::hard_link(&binary, &link)
            .unwrap_or_else(|error| panic!("link {}: {error}", binary.display()));
        link
    })
}

/// A tmpfs with everything that this run writes.
pub(crate) fn work_dir() -> &'static Path {
    static FOLDER_OF_RUN: OnceLock<PathBuf> = OnceLock::new();
    FOLDER_OF_RUN.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("{FOLDER}{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder is made");
        linux::mounts::tmpfs(&folder, "mode=711").expect("a tmpfs is mounted");
        folder
    })
}

/// Takes away what this process made on disk; logs of servers go where cargo keeps a test's files.
pub(crate) fn remove_work_dir() {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(kept).expect("cargo's folder for tests");
    for log in entries(work_dir()).filter(|path| path.extension() == Some(OsStr::new("log"))) {
        drop(fs::copy(
            &log,
            kept.join(log.file_name().unwrap_or_default()),
        ));
    }
    linux::mounts::unmount_below(work_dir()).expect("the tmpfs is unmounted");
    fs::remove_dir(work_dir()).expect("its folder is removed");
    drop(fs::remove_file(combo()));
}

/// Ends what runs before this one left when they were killed themselves.
pub(crate) fn sweep_dead_runs() {
    for folder in entries(&std::env::temp_dir()) {
        let name = folder
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        let Some(run) = name.strip_prefix(FOLDER) else {
            continue;
        };
        if Path::new("/proc").join(run).exists() {
            continue;
        }
        for data_dir in entries(&folder).filter(|path| path.is_dir()) {
            Traces::of(&data_dir, None).kill_servers();
            drop(
                Command::new(combo())
                    .args(["killall", "-d"])
                    .arg(&data_dir)
                    .status(),
            );
        }
        drop(linux::mounts::unmount_below(&folder));
        drop(fs::remove_dir(&folder));
        drop(fs::remove_file(combo().with_file_name(name)));
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// What is special about a server.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// More flags of `combo server`.
    pub(crate) flags: Vec<&'static str>,
    /// Another data folder than one on the run's tmpfs.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Options {
    pub(crate) fn control_plane_only() -> Self {
        Self {
            flags: vec!["--disable-agent"],
            data_dir: None,
        }
    }
}

pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) port: u16,
    pub(crate) pod_prefix: String,
    arguments: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Server {
    /// Starts a server and waits until it, and its node, are ready.
    pub(crate) fn start(name: &str, options: &Options) -> Self {
        let server = Self::prepare(name, options);
        if server.has_node() {
            import_images(&server.data_dir);
        }
        server.run();
        server.wait_ready();
        server
    }

    /// A server that does not run yet.
    pub(crate) fn prepare(name: &str, options: &Options) -> Self {
        let data_dir = options
            .data_dir
            .clone()
            .unwrap_or_else(|| work_dir().join(name));
        fs::create_dir_all(&data_dir).expect("a data folder is made");
        let kubeconfig = work_dir().join(format!("{name}.kubeconfig"));
        let (port, kubelet_port) = (free_port(), free_port());
        let number = unused_number();
        let pod_prefix = format!("10.{}.", 100 + 2 * (number % 70));
        let node_ports = 30_000 + 100 * (number % 27);
        let mut arguments: Vec<String> = [
            ("--data-dir", data_dir.to_str().expect("UTF-8").to_owned()),
            (
                "--write-kubeconfig",
                kubeconfig.to_str().expect("UTF-8").to_owned(),
            ),
            ("--https-listen-port", port.to_string()),
            ("--kubelet-port", kubelet_port.to_string()),
            ("--node-name", format!("node-{name}")),
            ("--cluster-cidr", format!("{pod_prefix}0.0/16")),
            (
                "--service-cidr",
                format!("10.{}.0.0/16", 101 + 2 * (number % 70)),
            ),
            (
                "--service-node-port-range",
                format!("{node_ports}-{}", node_ports + 99),
            ),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        arguments.extend(options.flags.iter().map(|&flag| flag.to_owned()));
        let process = Mutex::new(None);
        Self {
            name: name.to_owned(),
            data_dir,
            kubeconfig,
            port,
            pod_prefix,
            arguments,
            process,
        }
    }

    fn has_node(&self) -> bool {
        !self.arguments.iter().any(|flag| flag == "--disable-agent")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        work_dir().join(format!("{}.log", self.name))
    }

    /// Starts the process, and waits for nothing.
    pub(crate) fn run(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file");
        let child = Command::new(combo())
            .arg("server")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("combo starts");
        let before = self.process().replace(child);
        assert!(before.is_none(), "the server ran already");
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn wait_ready(&self) {
        self.wait_api();
        if self.has_node() {
            let node = format!("node-{}", self.name);
            self.kubectl()
                .until("node", &node, "Ready", crate::support::kubectl::is_ready);
        }
    }

    /// Waits until the API server says that it is ready.
    pub(crate) fn wait_api(&self) {
        eventually("the server's /readyz", || {
            if let Some(ended) = self
                .process()
                .as_mut()
                .and_then(|child| child.try_wait().expect("a child"))
            {
                panic!("the server ended ({ended}):\n{}", self.log());
            }
            self.kubeconfig.exists().then_some(())?;
            self.http()
                .get("/readyz")
                .ok()
                .filter(|answer| answer.status == 200)
        });
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The newest stock kubectl, as the administrator.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::stock(&self.kubeconfig)
    }

    pub(crate) fn http(&self) -> Http {
        Http::from_kubeconfig(([127, 0, 0, 1], self.port).into(), &self.kubeconfig)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process().as_ref().expect("the server runs").id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        let mut child = self.process().take().expect("the server runs");
        child.kill().expect("it can be killed");
        child.wait().expect("a child");
    }

    /// Asks to stop, and waits for the end.
    pub(crate) fn stop(&self) -> ExitStatus {
        stop(self.process().take().expect("the server runs"))
    }

    /// `combo killall`.
    pub(crate) fn clean_up(&self) {
        let done = Command::new(combo())
            .args(["killall", "-d"])
            .arg(&self.data_dir)
            .output()
            .expect("combo runs");
        assert!(
            done.status.success(),
            "combo killall: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// What the host has of this server.
    pub(crate) fn traces(&self) -> Traces {
        Traces::of(&self.data_dir, Some(&self.pod_prefix))
    }

    /// Stops it, cleans up, and proves that nothing is left on the host.
    pub(crate) fn tear_down(&self) {
        let runs = self.process().is_some();
        if runs {
            let status = self.stop();
            assert!(
                status.signal().is_none(),
                "SIGTERM did not stop the server in {STOP_LIMIT:?}"
            );
        }
        self.clean_up();
        within(STOP_LIMIT, "nothing is left", || {
            let traces = self.traces();
            if !traces.is_empty() {
                eprintln!("left for now: {traces:?}");
            }
            traces.is_empty().then_some(())
        });
    }
}

impl Drop for Server {
    /// Of a test that failed half way.
    fn drop(&mut self) {
        if self.process().is_some() {
            self.kill();
            drop(
                Command::new(combo())
                    .args(["killall", "-d"])
                    .arg(&self.data_dir)
                    .status(),
            );
        }
    }
}

/// Asks a process to stop, and waits for its end; one that does not is killed.
pub(crate) fn stop(mut child: Child) -> ExitStatus {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::TERM).expect("it can be told");
    let deadline = Instant::now() + STOP_LIMIT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("a child")
}

/// The images of tests, for the node that will have this data folder.
pub(crate) fn import_images(data_dir: &Path) {
    import_images_with(combo(), data_dir);
}

/// The same by another build.
pub(crate) fn import_images_with(program: &Path, data_dir: &Path) {
    let done = Command::new(program)
        .args(["image", "import", "-d"])
        .arg(data_dir)
        .args(archives())
        .output()
        .expect("combo runs");
    assert!(done.status.success(), "{done:?}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A number for address ranges that no route of this machine has, and no server of this run.
fn unused_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let routes = Command::new("ip")
        .args(["-o", "route", "show", "table", "all"])
        .output()
        .expect("iproute2");
    let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
    loop {
        let number = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let octet = 100 + 2 * (number % 70);
        let is_used = |octet: u32| routes.contains(&format!("10.{octet}."));
        if !is_used(octet) && !is_used(octet + 1) {
            return number;
        }
    }
}
