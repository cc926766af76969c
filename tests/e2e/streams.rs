//! Streams between a client and a container: logs, exec, attach, cp, port-forward.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::json;

use crate::Test;
use crate::support::kubectl::Follower;
use crate::support::objects::{idle, script, web, with_container};
use crate::support::terminal::Terminal;
use crate::support::{Space, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("logs_follow_until_the_container_ends", logs),
    ("exec_gives_output_and_exit_code_apart", exec),
    ("a_terminal_resizes_with_the_persons_own", terminal),
    ("attach_reaches_the_first_process", attach),
    ("cp_copies_both_ways", cp),
    ("port_forward_reaches_the_pod", port_forward),
];

fn logs() {
    let space = Space::new("logs");
    space.kubectl.start_pod(&script(
        "counting",
        "echo one; until test -e /tmp/go; do sleep 0.1; done; echo two >&2; exit 0",
    ));
    let mut follower = Follower::new(space.kubectl.spawn(&["logs", "-f", "counting"]));
    follower.wait_for("one");
    assert!(!follower.seen().contains("two"));
    space.kubectl.sh("counting", "touch /tmp/go");
    follower.wait_for("two");
    assert_eq!(follower.exit_code(), Some(0));
    assert_eq!(space.kubectl.ok(&["logs", "counting", "--tail=1"]), "two\n");
    let stamped = space.kubectl.ok(&["logs", "counting", "--timestamps"]);
    assert!(
        stamped
            .lines()
            .all(|line| line.starts_with("20") && line.contains("Z ")),
        "{stamped}"
    );
    assert_eq!(
        space.kubectl.ok(&["logs", "counting", "--limit-bytes=3"]),
        "one"
    );
}

fn exec() {
    let space = Space::new("exec");
    space.kubectl.start_pod(&idle("host"));
    let output = space.kubectl.run(&[
        "exec",
        "host",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("err\n"));
    let big = vec![b'x'; 3 << 20];
    let echoed = space
        .kubectl
        .run_with_input(&["exec", "-i", "host", "--", "cat"], &big);
    assert!(
        echoed.stdout == big,
        "{} of {} bytes came back",
        echoed.stdout.len(),
        big.len()
    );
    let missing = space
        .kubectl
        .fails(&["exec", "host", "--", "no-such-program"]);
    assert!(missing.contains("no-such-program"), "{missing}");
}

fn terminal() {
    let space = Space::new("terminal");
    space.kubectl.start_pod(&idle("host"));
    let mut terminal = Terminal::run(
        &space.kubectl.words(&["exec", "-it", "host", "--", "sh"]),
        30,
        100,
    );
    terminal.wait_for("# ");
    terminal.write("tty; stty size\n");
    terminal.wait_for("/dev/pts/0");
    terminal.wait_for("30 100");
    terminal.resize(41, 123);
    eventually("the new size inside", || {
        terminal.write("stty size\n");
        terminal.seen().contains("41 123").then_some(())
    });
    terminal.write("exit 3\n");
    assert_eq!(terminal.exit_code(), Some(3));
}

fn attach() {
    let space = Space::new("attach");
    let pod = with_container(
        script(
            "echoing",
            "while read line; do echo got $line; done; echo end",
        ),
        &json!({"stdin": true, "stdinOnce": true}),
    );
    space.kubectl.start_pod(&pod);
    let mut client = space.kubectl.command(&["attach", "-i", "echoing"]);
    let mut child = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut follower = Follower::new(child);
    stdin.write_all(b"hello\n").unwrap();
    follower.wait_for("got hello");
    drop(stdin);
    follower.wait_for("end");
    assert_eq!(follower.exit_code(), Some(0));
    space.kubectl.until("pod", "echoing", "ended", |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
}

fn cp() {
    let space = Space::new("cp");
    space.kubectl.start_pod(&idle("host"));
    let folder = crate::support::server::work_dir().join("cp");
    std::fs::create_dir_all(folder.join("sent/below")).unwrap();
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(folder.join("sent/big"), &bytes).unwrap();
    std::fs::write(folder.join("sent/below/small"), "small").unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    space
        .kubectl
        .ok(&["cp", &path("sent"), "host:/tmp/received"]);
    assert_eq!(
        space
            .kubectl
            .sh(
                "host",
                "cat /tmp/received/below/small; wc -c < /tmp/received/big"
            )
            .trim(),
        format!("small{}", bytes.len())
    );
    space
        .kubectl
        .ok(&["cp", "host:/tmp/received", &path("back")]);
    assert!(std::fs::read(folder.join("back/big")).unwrap() == bytes);
    assert_eq!(
        std::fs::read_to_string(folder.join("back/below/small")).unwrap(),
        "small"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

fn port_forward() {
    let space = Space::new("port-forward");
    space.kubectl.start_pod(&web("served"));
    let follower = Follower::new(
        space
            .kubectl
            .spawn(&["port-forward", "pod/served", ":8080"]),
    );
    follower.wait_for("Forwarding from 127.0.0.1:");
    let seen = follower.seen();
    let port = seen
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap();
    let port: u16 = port.parse().unwrap();
    for _several_connections in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .write_all(b"GET /hostname HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nserved"), "{answer}");
    }
}
