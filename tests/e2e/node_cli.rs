//! `combo pods|logs|exec` on a node: what the node itself answers, with a server or without.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::Test;
use crate::support::images::BUSYBOX;
use crate::support::kubectl::Follower;
use crate::support::objects::{idle, script, with};
use crate::support::server::combo;
use crate::support::terminal::Terminal;
use crate::support::{Cluster, Space, shared};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_node_without_a_server_shows_its_pods_logs_and_exec",
        cut_off,
    ),
    ("a_server_shows_the_pods_of_its_own_node", on_a_server),
    ("who_asks_where_no_node_runs_is_told_why", nobody),
];

/// Commands on the node of a data folder.
struct OnNode<'a>(&'a Path);

impl OnNode<'_> {
    fn words(&self, arguments: &[&str]) -> Vec<OsString> {
        let (command, rest) = arguments.split_first().expect("a command");
        let mut words = vec![combo().as_os_str().to_owned(), command.into(), "-d".into()];
        words.push(self.0.as_os_str().to_owned());
        words.extend(rest.iter().map(OsString::from));
        words
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let words = self.words(arguments);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("combo runs")
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).expect("UTF-8")
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert!(!done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stderr).expect("UTF-8")
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("combo runs")
    }
}

fn cut_off() {
    let cluster = Cluster::start("cut-off", &["--disable-agent"], &["edge"]);
    let space = Space::through(cluster.kubectl(), "site");
    space.kubectl.start_pod(&idle("host"));
    let count = "echo one; until test -e /tmp/go; do sleep 0.1; done; echo two";
    space.kubectl.start_pod(&script("counting", count));
    space.kubectl.create(&restarting());
    space
        .kubectl
        .until("pod", "again", "it was restarted", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        });
    cluster.server.end();

    let edge = cluster.agent("edge");
    let node = OnNode(&edge.data_dir);
    let mode = edge.joined("combo.sock").metadata().unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    shows_pods(&node);
    shows_logs(&node);
    runs_commands(&node);
    // The space's own end needs a server.
    cluster.server.run();
    drop(space);
    cluster.tear_down();
}

/// A pod of two containers, of which one ended once.
fn restarting() -> Value {
    let twice =
        "test -e /state/ran && { echo second; exec sleep 1000; }; touch /state/ran; echo first";
    let mounts = json!([{"name": "state", "mountPath": "/state"}]);
    let container = |name: &str, script: &str| json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", script], "volumeMounts": mounts});
    let spec = json!({
        "restartPolicy": "Always", "volumes": [{"name": "state", "emptyDir": {}}],
        "containers": [container("main", twice), container("other", "echo beside; exec sleep 1000")],
    });
    with(script("again", ""), &json!({"spec": spec}))
}

fn shows_pods(node: &OnNode<'_>) {
    let table = node.ok(&["pods"]);
    let row = table.lines().find(|line| line.contains(" host ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..4], ["site", "host", "1/1", "Running"], "{table}");
    let chosen = node.ok(&["pods", "-n", "site", "-l", "app=host", "-o", "name"]);
    assert_eq!(chosen, "pod/host\n");
    let phase = [
        "pods",
        "-n",
        "site",
        "host",
        "-o",
        "jsonpath={.status.phase}",
    ];
    assert_eq!(node.ok(&phase), "Running");
    let running = node.ok(&["pods", "--field-selector", "status.phase!=Running"]);
    assert_eq!(running, "");
    let told = node.fails(&["pods", "-n", "site", "none"]);
    assert!(told.contains("pods \"none\" not found"), "{told}");
}

/// A command about pods of the site.
fn of_site<'a>(command: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&[command, "-n", "site"], rest].concat()
}

fn shows_logs(node: &OnNode<'_>) {
    let mut follower = Follower::new(node.spawn(&of_site("logs", &["-f", "counting"])));
    follower.wait_for("one");
    node.ok(&["exec", "-n", "site", "counting", "--", "touch", "/tmp/go"]);
    follower.wait_for("two");
    assert_eq!(follower.exit_code(), Some(0));
    assert_eq!(
        node.ok(&of_site("logs", &["counting", "--tail=1"])),
        "two\n"
    );
    assert_eq!(
        node.ok(&of_site("logs", &["counting", "--since=1h"])),
        "one\ntwo\n"
    );
    assert_eq!(
        node.ok(&of_site("logs", &["again", "-c", "main"])),
        "second\n"
    );
    assert_eq!(
        node.ok(&of_site("logs", &["again", "-c", "main", "-p"])),
        "first\n"
    );
    assert_eq!(
        node.ok(&of_site("logs", &["again", "-c", "other"])),
        "beside\n"
    );
    let told = node.fails(&of_site("logs", &["again", "-c", "none"]));
    assert!(
        told.contains("container none is not valid for pod again"),
        "{told}"
    );
}

fn runs_commands(node: &OnNode<'_>) {
    let script = "echo out; echo err >&2; exit 7";
    let done = node.run(&of_site("exec", &["host", "--", "sh", "-c", script]));
    assert_eq!(done.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&done.stdout), "out\n");
    assert!(String::from_utf8_lossy(&done.stderr).starts_with("err\n"));
    let missing = node.fails(&of_site("exec", &["host", "--", "no-such-program"]));
    assert!(missing.contains("no-such-program"), "{missing}");
    let words = node.words(&of_site("exec", &["-it", "host", "-c", "main", "--", "sh"]));
    let mut terminal = Terminal::run(&words, 30, 100);
    terminal.wait_for("# ");
    terminal.write("tty; stty size\n");
    terminal.wait_for("/dev/pts/0");
    terminal.wait_for("30 100");
    terminal.write("exit 3\n");
    assert_eq!(terminal.exit_code(), Some(3));
}

fn on_a_server() {
    let space = Space::new("on-node");
    space
        .kubectl
        .start_pod(&script("said", "echo hello; exec sleep 1000"));
    let node = OnNode(&shared().data_dir);
    assert_eq!(node.ok(&["logs", "-n", "on-node", "said"]), "hello\n");
    assert!(node.ok(&["pods"]).contains("on-node "));
    let done = node.run(&["exec", "-n", "on-node", "said", "--", "false"]);
    assert_eq!(done.status.code(), Some(1));
}

fn nobody() {
    let told = OnNode(Path::new("/nowhere")).fails(&["pods"]);
    let text = "no node answers at /nowhere/agent/combo.sock";
    assert!(told.contains(text) && told.contains("--data-dir"), "{told}");
}
