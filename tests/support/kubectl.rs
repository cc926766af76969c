//! A kubectl of somebody's, pointed at a server.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::eventually;

/// Names the kubectl that most tests use; without it the one on PATH is used.
const STOCK: &str = "COMBO_KUBECTL";

#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    program: Vec<OsString>,
    kubeconfig: PathBuf,
    namespace: Option<String>,
}

impl Kubectl {
    /// The newest stock kubectl that there is.
    pub(crate) fn stock(kubeconfig: &Path) -> Self {
        let program = std::env::var_os(STOCK).unwrap_or_else(|| "kubectl".into());
        Self {
            program: vec![program],
            kubeconfig: kubeconfig.to_owned(),
            namespace: None,
        }
    }

    /// The same, run by a command such as `nsenter`.
    pub(crate) fn behind(runner: &[OsString], kubeconfig: &Path) -> Self {
        let stock = Self::stock(kubeconfig);
        let program = runner.iter().cloned().chain(stock.program).collect();
        Self { program, ..stock }
    }

    /// The kubectl that is built in.
    pub(crate) fn built_in(combo: &Path, kubeconfig: &Path) -> Self {
        let program = vec![combo.as_os_str().to_owned(), "kubectl".into()];
        Self {
            program,
            kubeconfig: kubeconfig.to_owned(),
            namespace: None,
        }
    }

    /// The kubectl on PATH.
    pub(crate) fn on_path(kubeconfig: &Path) -> Self {
        Self {
            program: vec!["kubectl".into()],
            kubeconfig: kubeconfig.to_owned(),
            namespace: None,
        }
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The program's file.
    pub(crate) fn program(&self) -> PathBuf {
        let program = PathBuf::from(&self.program[0]);
        on_path(&program).expect("kubectl is on PATH")
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The whole command line, for those who start it themselves.
    pub(crate) fn words(&self, arguments: &[&str]) -> Vec<OsString> {
        let mut words = self.program.clone();
        words.push("--kubeconfig".into());
        words.push(self.kubeconfig.clone().into());
        if let Some(namespace) = &self.namespace {
            words.extend(["-n".into(), namespace.into()]);
        }
        words.extend(arguments.iter().map(OsString::from));
        words
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let words = self.words(arguments);
        let mut command = Command::new(&words[0]);
        // The cache of discovery is shared between tests otherwise, and with whoever works on this machine.
        let cache = self.kubeconfig.with_extension("cache");
        command
            .args(&words[1..])
            .env("KUBECACHEDIR", cache)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("kubectl runs")
    }

    /// Runs and gives standard output; a failure fails the test.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        succeeded(arguments, &self.run(arguments))
    }

    /// Runs what must fail, and gives standard error.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            !output.status.success(),
            "kubectl {arguments:?} succeeded: {output:?}"
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs with standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Self::start(self.command(arguments).stdin(Stdio::piped()));
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that reads nothing and ends has its own word to say.
        drop(stdin.write_all(input));
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    pub(crate) fn ok_with_input(&self, arguments: &[&str], input: &[u8]) -> String {
        succeeded(arguments, &self.run_with_input(arguments, input))
    }

    pub(crate) fn apply(&self, object: &Value) -> String {
        self.ok_with_input(&["apply", "-f", "-"], object.to_string().as_bytes())
    }

    /// Creates an object.
    pub(crate) fn create(&self, object: &Value) {
        self.ok_with_input(&["create", "-f", "-"], object.to_string().as_bytes());
    }

    /// Creates a pod and waits until it is ready.
    pub(crate) fn start_pod(&self, pod: &Value) -> Value {
        self.create(pod);
        self.wait_ready(pod["metadata"]["name"].as_str().expect("a name"))
    }

    /// Creates a pod, waits until it has ended, and gives its log.
    pub(crate) fn run_pod(&self, pod: &Value) -> String {
        self.create(pod);
        let name = pod["metadata"]["name"].as_str().expect("a name");
        self.until("pod", name, "ended", |pod| {
            ["Succeeded", "Failed"]
                .iter()
                .any(|&phase| pod["status"]["phase"] == phase)
        });
        self.logs(name)
    }

    /// Starts in the background with its output in pipes.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        Self::start(&mut self.command(arguments))
    }

    fn start(command: &mut Command) -> Child {
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts")
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["get", kind, name, "-o", "json"]))
            .expect("kubectl prints JSON")
    }

    /// The object, or `None` if there is none or the server does not answer.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.run(&["get", kind, name, "-o", "json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).expect("kubectl prints JSON"))
    }

    /// The items of a list.
    pub(crate) fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let text = self.ok(&["get", kind, "-l", selector, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        list["items"].as_array().cloned().expect("a list has items")
    }

    /// Waits until an object satisfies a condition, and gives it.
    pub(crate) fn until(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&format!("{kind}/{name}: {what}"), || {
                last = self.find(kind, name);
                last.clone().filter(|object| is_so(object))
            })
        }));
        found.unwrap_or_else(|_panic| {
            panic!("{kind}/{name}: {what}; it is {}", last.unwrap_or_default())
        })
    }

    pub(crate) fn wait_ready(&self, pod: &str) -> Value {
        self.until("pod", pod, "ready", is_ready)
    }

    /// What a container wrote, without the client's words.
    pub(crate) fn logs(&self, pod: &str) -> String {
        self.ok(&["logs", pod])
    }

    /// Runs a shell script in a pod; it must succeed.
    pub(crate) fn sh(&self, pod: &str, script: &str) -> String {
        self.ok(&["exec", pod, "--", "sh", "-c", script])
    }
}

/// Where `PATH` leads to a program.
pub(crate) fn on_path(program: &Path) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.exists())
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Follows what a client in the background writes, until it has written a text.
pub(crate) struct Follower {
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Follower {
    pub(crate) fn new(mut child: Child) -> Self {
        let seen = Arc::new(Mutex::new(String::new()));
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("a pipe")),
            Box::new(child.stderr.take().expect("a pipe")),
        ];
        for mut output in outputs {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = output.read(&mut buffer) {
                    seen.lock()
                        .expect("no panic")
                        .push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            });
        }
        Self { child, seen }
    }

    pub(crate) fn seen(&self) -> String {
        self.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        eventually(&format!("{text:?} from a client"), || {
            self.seen().contains(text).then_some(())
        });
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        eventually("the end of a client", || {
            self.child.try_wait().expect("a child")
        })
        .code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> String {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "kubectl {arguments:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout.into_owned()
}
