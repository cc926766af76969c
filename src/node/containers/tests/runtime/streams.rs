//! Exec, attach, terminals, port-forward, and the log's rotation.

use super::Test;
use super::support::{Node, PATIENCE, block_on, command, eventually, script};
use cri::{Attachment, Error, ExecRequest, ReopenLog, RuntimeService, Stdio, TerminalSize};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const TESTS: &[Test] = &[
    (
        "exec_gives_output_and_exit_code_and_says_what_cannot_be_run",
        exec_sync,
    ),
    ("an_exec_that_takes_too_long_is_killed", exec_timeout),
    ("an_exec_has_streams_both_ways", exec_streams),
    (
        "an_exec_with_a_terminal_has_its_size_and_control_characters",
        exec_terminal,
    ),
    (
        "attached_clients_get_copies_and_write_to_standard_input",
        attach,
    ),
    (
        "a_container_with_a_terminal_is_attached_resized_and_logged",
        attach_terminal,
    ),
    ("a_port_of_the_pod_is_reached_from_the_host", port_forward),
    ("logs_rotate_by_size_and_on_request", rotation),
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn exec_sync() {
    block_on(async {
        let node = Node::open("exec").await;
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, command(&["sleep", "1000"])).await;
        let run = node.runtime.exec_sync(
            &id,
            words(&["sh", "-c", "echo out; echo err >&2; exit 3"]),
            None,
        );
        let output = run.await.unwrap();
        assert_eq!(
            (output.stdout, output.stderr, output.exit_code),
            (b"out\n".to_vec(), b"err\n".to_vec(), 3)
        );
        let error = node
            .runtime
            .exec_sync(&id, words(&["nope"]), None)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Exec { code: 127, message } if message.contains("not found in $PATH")),
            "{error:?}"
        );
        let many = (0..10).map(|_| {
            node.runtime
                .exec_sync(&id, words(&["echo", "x"]), Some(PATIENCE))
        });
        for output in futures_util::future::join_all(many).await {
            assert_eq!(output.unwrap().stdout, b"x\n");
        }
        node.runtime
            .stop_container(&id, Duration::ZERO)
            .await
            .unwrap();
        let error = node
            .runtime
            .exec_sync(&id, words(&["true"]), None)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::ContainerState { .. }), "{error:?}");
        node.close().await;
    });
}

fn exec_timeout() {
    block_on(async {
        let node = Node::open("exec-timeout").await;
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, command(&["sleep", "1000"])).await;
        let limit = Some(Duration::from_millis(200));
        let error = node
            .runtime
            .exec_sync(&id, words(&["sleep", "2222"]), limit)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error:?}");
        eventually(|| async { (!node.sh(&id, "ps").await.contains("sleep 2222")).then_some(()) })
            .await;
        node.close().await;
    });
}

fn exec_streams() {
    block_on(async {
        let node = Node::open("exec-streams").await;
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, command(&["sleep", "1000"])).await;
        let stdio = Stdio {
            stdin: true,
            stdout: true,
            stderr: false,
        };
        let request = ExecRequest {
            command: words(&["wc", "-c"]),
            tty: false,
            stdio,
        };
        let mut session = node.runtime.exec(&id, request).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        let big = vec![b'x'; 300_000];
        stdin.write_all(&big).await.unwrap();
        drop(stdin);
        let mut text = String::new();
        session
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .await
            .unwrap();
        assert_eq!(text.trim(), "300000");
        assert_eq!(session.exit.await.unwrap(), 0);
        node.close().await;
    });
}

fn exec_terminal() {
    block_on(async {
        let node = Node::open("exec-terminal").await;
        let sandbox = node.sandbox().await;
        let id = node.start(&sandbox, command(&["sleep", "1000"])).await;
        let stdio = Stdio {
            stdin: true,
            stdout: true,
            stderr: false,
        };
        let request = ExecRequest {
            command: words(&["sh", "-c", "tty; read line; stty size; sleep 1000"]),
            tty: true,
            stdio,
        };
        let mut session = node.runtime.exec(&id, request).await.unwrap();
        let size = TerminalSize {
            width: 99,
            height: 33,
        };
        (session.resize.as_ref().unwrap())(size).unwrap();
        let (mut stdin, mut stdout) = (
            session.stdin.take().unwrap(),
            session.stdout.take().unwrap(),
        );
        stdin.write_all(b"go\n").await.unwrap();
        let seen = read_until(&mut stdout, "33 99").await;
        assert!(seen.contains("/dev/pts/"), "{seen}");
        stdin.write_all(&[3]).await.unwrap();
        assert_eq!(session.exit.await.unwrap(), 130, "Ctrl-C");
        node.close().await;
    });
}

async fn read_until(reader: &mut cri::ByteReader, wanted: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains(wanted) {
        let read = tokio::time::timeout(PATIENCE, reader.read(&mut buffer)).await;
        let count = read
            .unwrap_or_else(|_| panic!("no {wanted:?} in {seen:?}"))
            .unwrap();
        assert!(count > 0, "ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

fn attach() {
    block_on(async {
        let node = Node::open("attach").await;
        let sandbox = node.sandbox().await;
        let mut config = script("while read line; do echo got $line; done; echo end; exit 4");
        config.stdin = true;
        config.stdin_once = true;
        let id = node.start(&sandbox, config).await;
        let all = Stdio {
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let mut first = node
            .runtime
            .attach(&id, Attachment { stdio: all })
            .await
            .unwrap();
        let only = Stdio {
            stdin: false,
            stdout: true,
            stderr: false,
        };
        let mut second = node
            .runtime
            .attach(&id, Attachment { stdio: only })
            .await
            .unwrap();
        let mut stdin = first.stdin.take().unwrap();
        stdin.write_all(b"one\n").await.unwrap();
        read_until(first.stdout.as_mut().unwrap(), "got one\n").await;
        read_until(second.stdout.as_mut().unwrap(), "got one\n").await;
        drop(stdin);
        read_until(second.stdout.as_mut().unwrap(), "end\n").await;
        assert_eq!(second.exit.await.unwrap(), 4);
        assert_eq!(node.outcome(&id).await.lines, ["got one", "end"]);
        node.close().await;
    });
}

fn attach_terminal() {
    block_on(async {
        let node = Node::open("attach-terminal").await;
        let sandbox = node.sandbox().await;
        let mut config = script("read line; stty size; echo got $line; exit 5");
        config.tty = true;
        config.stdin = true;
        let id = node.start(&sandbox, config).await;
        let stdio = Stdio {
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let mut session = node
            .runtime
            .attach(&id, Attachment { stdio })
            .await
            .unwrap();
        assert!(session.stderr.is_none());
        (session.resize.as_ref().unwrap())(TerminalSize {
            width: 80,
            height: 25,
        })
        .unwrap();
        session
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"it\n")
            .await
            .unwrap();
        let seen = read_until(session.stdout.as_mut().unwrap(), "got it").await;
        assert!(seen.contains("25 80"), "{seen}");
        let outcome = node.outcome(&id).await;
        assert_eq!(outcome.code, 5);
        assert!(
            outcome.lines.iter().any(|line| line.trim() == "got it"),
            "{outcome:?}"
        );
        node.close().await;
    });
}

fn port_forward() {
    block_on(async {
        let node = Node::open("port").await;
        let sandbox = node.sandbox().await;
        node.start(&sandbox, command(&["nc", "-ll", "-p", "8080", "-e", "cat"]))
            .await;
        let mut stream =
            eventually(|| async { node.runtime.port_forward(&sandbox, 8080).await.ok() }).await;
        stream.write_all(b"echo").await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"echo");
        let error = node.runtime.port_forward(&sandbox, 9).await.err().unwrap();
        assert!(error.to_string().contains("localhost:9"), "{error}");
        node.close().await;
    });
}

fn rotation() {
    block_on(async {
        let node = Node::open("rotation").await;
        let sandbox = node.sandbox().await;
        let id = node
            .start(&sandbox, script("seq 1 20000; sleep 1000"))
            .await;
        let path = node.runtime.container_status(&id).await.unwrap().log_path;
        let directory = path.parent().unwrap().to_owned();
        let last = || async {
            let files = std::fs::read_dir(&directory).unwrap().flatten();
            files
                .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
                .any(|text| text.ends_with(" 20000\n"))
                .then_some(())
        };
        eventually(last).await;
        // The shim may be in the middle of the last rotation: a file too many is there, or none at the path.
        let count = || std::fs::read_dir(&directory).unwrap().count();
        eventually(|| async { (count() == 3).then_some(()) }).await;
        let moved = directory.join("moved");
        eventually(|| async { std::fs::rename(&path, &moved).ok() }).await;
        node.runtime
            .reopen_container_log(&id, ReopenLog::Reopen)
            .await
            .unwrap();
        assert!(path.exists());
        node.close().await;
    });
}
