//! What a new runtime finds after the old one was killed.

use super::Test;
use super::support::{Node, block_on, command, eventually, script};
use cri::{ContainerFilter, ContainerState, ExitReason, PodSandboxState, RuntimeService};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &[
    (
        "pods_outlive_a_killed_server_and_their_exits_are_known_to_the_next",
        survives_kill,
    ),
    (
        "a_second_runtime_of_one_data_directory_is_refused",
        one_runtime,
    ),
];

/// The first argument of a child that plays the server.
const SERVER: &str = "__server";
const NAME: &str = "adopt";

/// Starts three containers, says so, and waits to be killed.
pub(crate) fn serve_as_child(args: &[String]) -> Option<ExitCode> {
    let [first, data_dir] = args else { return None };
    if first != SERVER {
        return None;
    }
    block_on(async {
        let node = Node::open_at(PathBuf::from(data_dir), NAME).await;
        let sandbox = node.sandbox().await;
        let named = |name: &str, text: &str| {
            let mut config = script(text);
            name.clone_into(&mut config.name);
            config.log_path = format!("{name}/0.log").into();
            config
        };
        node.start(
            &sandbox,
            named("stays", "while :; do echo tick; sleep 0.1; done"),
        )
        .await;
        node.start(
            &sandbox,
            named("ends", "while ! test -e /end; do sleep 0.05; done; exit 42"),
        )
        .await;
        node.runtime
            .create_container(&sandbox, named("created", "exit 6"))
            .await
            .unwrap();
        println!("up");
        std::future::pending::<()>().await;
    });
    Some(ExitCode::SUCCESS)
}

fn survives_kill() {
    block_on(async {
        let data_dir = std::env::temp_dir().join(format!("combo-adopt-{}", std::process::id()));
        std::fs::create_dir_all(&data_dir).unwrap();
        let mut server = Command::new(std::env::current_exe().unwrap())
            .arg(SERVER)
            .arg(&data_dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut up).unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        end_the_second(&data_dir).await;

        let node = Node::open_at(data_dir, NAME).await;
        let sandboxes = node.runtime.list_pod_sandboxes().await.unwrap();
        assert_eq!(
            (sandboxes.len(), sandboxes[0].state),
            (1, PodSandboxState::Ready)
        );
        assert_eq!(sandboxes[0].addresses.len(), 1);
        let all = node
            .runtime
            .list_containers(&ContainerFilter::default())
            .await
            .unwrap();
        let named = |name: &str| all.iter().find(|one| one.name == name).unwrap().clone();
        assert!(matches!(named("created").state, ContainerState::Created));
        let ContainerState::Exited {
            exit_code,
            reason,
            started_at,
            ..
        } = named("ends").state
        else {
            panic!("{:?}", named("ends").state);
        };
        assert_eq!(
            (exit_code, reason, started_at.is_some()),
            (42, ExitReason::Error, true)
        );
        let stays = named("stays");
        assert!(
            matches!(stays.state, ContainerState::Running { .. }),
            "{:?}",
            stays.state
        );
        assert_eq!(node.sh(&stays.id, "echo in").await, "in");
        let length = || std::fs::metadata(&stays.log_path).unwrap().len();
        let before = length();
        eventually(|| async { (length() > before).then_some(()) }).await;
        node.runtime
            .start_container(&named("created").id)
            .await
            .unwrap();
        assert_eq!(node.exit(&named("created").id).await.0, 6);
        node.runtime
            .stop_container(&stays.id, Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(node.exit(&stays.id).await.0, 137);
        node.close().await;
    });
}

/// Lets the second container exit while no server is there, and waits until its shim wrote that down.
async fn end_the_second(data_dir: &std::path::Path) {
    for rootfs in std::fs::read_dir(data_dir.join("rootfs"))
        .unwrap()
        .flatten()
    {
        if rootfs.path().is_dir() {
            std::fs::write(rootfs.path().join("end"), "").unwrap();
        }
    }
    let sandboxes = data_dir.join("run/sandboxes");
    eventually(|| async {
        let sandbox = std::fs::read_dir(&sandboxes)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let containers = std::fs::read_dir(sandbox.join("containers"))
            .unwrap()
            .flatten();
        containers
            .map(|one| one.path().join("exit.json"))
            .any(|path| path.exists())
            .then_some(())
    })
    .await;
}

fn one_runtime() {
    block_on(async {
        let node = Node::open("one").await;
        let sandbox = node.sandbox().await;
        node.start(&sandbox, command(&["sleep", "1000"])).await;
        let child = Command::new(std::env::current_exe().unwrap())
            .arg(SERVER)
            .arg(&node.data_dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!child.success());
        node.close().await;
    });
}
