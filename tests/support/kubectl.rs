//! A kubectl of somebody's, pointed at a server.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::eventually;

/// Names the kubectl that most tests use; without it the one on PATH is used.
const STOCK: &str = "COMBO_E2E_KUBECTL";

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
        Self { program: vec![program], kubeconfig: kubeconfig.to_owned(), namespace: None }
    }

    /// The kubectl that is built in.
    pub(crate) fn built_in(combo: &Path, kubeconfig: &Path) -> Self {
        let program = vec![combo.as_os_str().to_owned(), "kubectl".into()];
        Self { program, kubeconfig: kubeconfig.to_owned(), namespace: None }
    }

    /// The kubectl on PATH.
    pub(crate) fn on_path(kubeconfig: &Path) -> Self {
        Self { program: vec!["kubectl".into()], kubeconfig: kubeconfig.to_owned(), namespace: None }
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// The whole command line, for those who start it themselves.
    pub(crate) fn words(&self, arguments: &[&str]) -> Vec<OsString> {
        let mut words = self.program.clone();
        words.extend(arguments.iter().take(1).map(OsString::from));
        words.push("--kubeconfig".into());
        words.push(self.kubeconfig.clone().into());
        if let Some(namespace) = &self.namespace {
            words.extend(["-n".into(), namespace.into()]);
        }
        words.extend(arguments.iter().skip(1).map(OsString::from));
        words
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let words = self.words(arguments);
        let mut command = Command::new(&words[0]);
        // The cache of discovery is shared between tests otherwise, and with whoever works on this machine.
        let cache = self.kubeconfig.with_extension("cache");
        command.args(&words[1..]).env("KUBECACHEDIR", cache).stdin(Stdio::null());
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
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs with standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.start(self.command(arguments).stdin(Stdio::piped()));
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that reads nothing and ends has its own word to say.
        drop(stdin.write_all(input));
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    pub(crate) fn ok_with_input(&self, arguments: &[&str], input: &[u8]) -> String {
        succeeded(arguments, &self.run_with_input(arguments, input))
    }

    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.ok_with_input(&["apply", "-f", "-"], manifest.as_bytes())
    }

    /// Starts in the background with its output in pipes.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.start(&mut self.command(arguments))
    }

    fn start(&self, command: &mut Command) -> Child {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl starts")
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["get", kind, name, "-o", "json"])).expect("kubectl prints JSON")
    }

    /// The object, or `None` if there is none or the server does not answer.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.run(&["get", kind, name, "-o", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("kubectl prints JSON"))
    }

    /// The items of a list.
    pub(crate) fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let text = self.ok(&["get", kind, "-l", selector, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        list["items"].as_array().cloned().expect("a list has items")
    }

    /// Waits until an object satisfies a condition, and gives it.
    pub(crate) fn until(&self, kind: &str, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&format!("{kind}/{name}: {what}"), || {
                last = self.find(kind, name);
                last.clone().filter(|object| is_so(object))
            })
        }));
        found.unwrap_or_else(|_panic| panic!("{kind}/{name}: {what}; it is {}", last.unwrap_or_default()))
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

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn succeeded(arguments: &[&str], output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "kubectl {arguments:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}
