//! The store beside its server: snapshots that bring the same cluster back, other sealing keys, upkeep.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::Test;
use crate::support::objects::{config_map, deployment};
use crate::support::server::{combo, import_images, work_dir};
use crate::support::{Kubectl, Options, Server, Space, eventually};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_blank_folder_and_a_snapshot_are_the_same_cluster",
        same_cluster,
    ),
    (
        "scheduled_snapshots_come_and_go_and_the_store_is_looked_after_while_it_runs",
        scheduled,
    ),
    (
        "secrets_are_never_plain_on_disk_and_get_another_key_while_the_server_runs",
        other_keys,
    ),
];

const SECRET: &str = "a-password-nobody-finds";
const PLAIN: &str = "a-text-that-is-found";

fn run(words: &[&str], data_dir: &Path) -> Output {
    Command::new(combo())
        .args(words)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .expect("combo runs")
}

fn ok(words: &[&str], data_dir: &Path) -> String {
    let done = run(words, data_dir);
    assert!(done.status.success(), "{words:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn fails(words: &[&str], data_dir: &Path) -> String {
    let done = run(words, data_dir);
    assert!(!done.status.success(), "{words:?}: {done:?}");
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn same_cluster() {
    let server = Server::start("restored", &Options::default());
    let space = Space::on(&server, "restored");
    space.kubectl.create(&config_map("before", "text", "1"));
    space.kubectl.create(&secret());
    space.kubectl.create(&deployment("web", 1));
    let rolled = ["rollout", "status", "deployment/web", "--timeout=60s"];
    space.kubectl.ok(&rolled);
    let passphrase = work_dir().join("restored.passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let passphrase = passphrase.to_str().unwrap();
    let folder = work_dir().join("restored.snapshots");
    let folder = folder.to_str().unwrap();
    let save = ["snapshot", "save", "--dir", folder, "--snapshot-compress"];
    let save = [&save[..], &["--passphrase-file", passphrase]].concat();
    let snapshot = ok(&save, &server.data_dir).trim().to_owned();
    space.kubectl.create(&config_map("after", "text", "1"));
    space.kubectl.ok(&["delete", "configmap", "before"]);
    let restore = [
        "snapshot",
        "restore",
        &snapshot,
        "--passphrase-file",
        passphrase,
    ];
    let error = fails(&[&restore[..], &["--replace"]].concat(), &server.data_dir);
    assert!(error.contains("a server runs on"), "{error}");

    let kubeconfig = work_dir().join("restored.kubeconfig.kept");
    fs::copy(&server.kubeconfig, &kubeconfig).unwrap();
    let token = fs::read(server.data_dir.join("server/node-token")).unwrap();
    let revision = revision_of(&space.kubectl);
    server.stop();
    server.clean_up();
    fs::remove_dir_all(&server.data_dir).unwrap();
    fs::remove_file(&server.kubeconfig).unwrap();

    let error = fails(&["snapshot", "restore", &snapshot], &server.data_dir);
    assert!(error.contains("--passphrase-file"), "{error}");
    let cut = work_dir().join("cut.snapshot");
    let whole = fs::read(&snapshot).unwrap();
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let cut = ["snapshot", "restore", cut.to_str().unwrap()];
    let error = fails(&[&cut[..], &restore[3..]].concat(), &server.data_dir);
    assert!(error.contains("is cut or changed"), "{error}");
    assert!(!server.data_dir.exists());
    ok(&restore, &server.data_dir);

    import_images(&server.data_dir);
    server.run();
    server.wait_ready();
    let kubectl = Kubectl::stock(&kubeconfig).in_namespace("restored");
    assert_eq!(kubectl.get("configmap", "before")["data"]["text"], "1");
    assert!(kubectl.find("configmap", "after").is_none());
    assert_eq!(decoded(&kubectl), SECRET);
    assert!(revision_of(&kubectl) > revision);
    let again = fs::read(server.data_dir.join("server/node-token")).unwrap();
    assert_eq!(again, token);
    kubectl.ok(&rolled);
    let pods = kubectl.list("pods", "app=web");
    kubectl.wait_ready(pods[0]["metadata"]["name"].as_str().unwrap());
    drop(space);
    server.tear_down();
}

fn revision_of(kubectl: &Kubectl) -> i64 {
    let all = kubectl.ok(&["get", "--raw", "/api/v1/namespaces?limit=1"]);
    let all: Value = serde_json::from_str(&all).unwrap();
    let revision = all["metadata"]["resourceVersion"].as_str().unwrap();
    revision.parse().unwrap()
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "stringData": {"word": SECRET}})
}

fn decoded(kubectl: &Kubectl) -> String {
    let secret = kubectl.get("secret", "password");
    let word = secret["data"]["word"].as_str().unwrap().to_owned();
    use base64::Engine as _;
    let word = base64::engine::general_purpose::STANDARD.decode(word);
    String::from_utf8(word.unwrap()).unwrap()
}

fn names(data_dir: &Path) -> BTreeSet<String> {
    let listed = ok(&["snapshot", "list", "-o", "json"], data_dir);
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let names = listed.iter().map(|one| one["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

fn scheduled() {
    let mut options = Options::control_plane_only();
    options.flags.extend([
        "--etcd-snapshot-schedule-cron=@every 1s",
        "--etcd-snapshot-retention=2",
        "--etcd-snapshot-compress",
    ]);
    let server = Server::start("scheduled", &options);
    let first = eventually("two snapshots", || {
        let names = names(&server.data_dir);
        (names.len() == 2).then_some(names)
    });
    eventually("two others", || {
        let names = names(&server.data_dir);
        (names.len() == 2 && names.is_disjoint(&first)).then_some(())
    });

    let checked = ok(&["db", "check"], &server.data_dir);
    assert!(checked.contains("every checksum matches"), "{checked}");
    let status = |server: &Server| -> Value {
        let status = ok(&["db", "status", "-o", "json"], &server.data_dir);
        serde_json::from_str(&status).unwrap()
    };
    let before = status(&server);
    assert!(before["keys"].as_u64() > Some(20), "{before}");
    ok(&["db", "compact"], &server.data_dir);
    assert!(status(&server)["compactRevision"].as_i64() > before["compactRevision"].as_i64());
    ok(&["db", "vacuum"], &server.data_dir);
    let metrics = server.http().get("/metrics").unwrap().text();
    let commits = metrics
        .lines()
        .find_map(|line| line.strip_prefix("combo_store_commit_duration_seconds_count "));
    let many = commits.is_some_and(|count| count.parse::<u64>().is_ok_and(|count| count > 10));
    assert!(many, "{metrics}");
    for name in [
        "combo_store_size_bytes",
        "combo_store_log_written_bytes_total",
        "combo_store_queue_length",
    ] {
        assert!(
            metrics.contains(&format!("\n{name} ")),
            "{name} in {metrics}"
        );
    }
    server.stop();
    // The same without a server.
    assert_eq!(status(&server)["unsealed"], 0);
    ok(&["db", "vacuum"], &server.data_dir);
    server.run();
    server.wait_ready();
    server.tear_down();
}

/// Where in the store's files a text is.
fn found(data_dir: &Path, text: &str) -> Vec<PathBuf> {
    let files = ["state.db", "state.db-wal"].map(|name| data_dir.join("server/db").join(name));
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    files.into_iter().filter(holds).collect()
}

fn other_keys() {
    let server = Server::start("sealed", &Options::control_plane_only());
    let space = Space::on(&server, "sealed");
    space.kubectl.create(&secret());
    space.kubectl.create(&config_map("plain", "text", PLAIN));
    // Kubernetes keeps values of Secrets in base64.
    let encoded = space.kubectl.get("secret", "password")["data"]["word"].clone();
    let encoded = encoded.as_str().unwrap();
    let is_sealed = || {
        assert!(!found(&server.data_dir, PLAIN).is_empty());
        assert_eq!(found(&server.data_dir, encoded), Vec::<PathBuf>::new());
        assert_eq!(found(&server.data_dir, SECRET), Vec::<PathBuf>::new());
    };
    is_sealed();
    let key_file = server.data_dir.join("server/cred/encryption.key");
    let before = fs::read_to_string(&key_file).unwrap();
    let rotated = ok(&["secrets-encrypt", "rotate"], &server.data_dir);
    assert!(rotated.contains("sealed with key 2"), "{rotated}");
    let after = fs::read_to_string(&key_file).unwrap();
    assert!(after.starts_with("2 ") && after.lines().count() == 1 && after != before);
    assert_eq!(decoded(&space.kubectl), SECRET);
    is_sealed();
    let status = |server: &Server| -> Value {
        let status = ok(
            &["secrets-encrypt", "status", "-o", "json"],
            &server.data_dir,
        );
        serde_json::from_str(&status).unwrap()
    };
    let told = status(&server);
    assert_eq!(
        (&told["keys"], &told["plainValues"]),
        (&json!([2]), &json!(0))
    );
    assert!(told["values"]["2"].as_u64() > Some(0), "{told}");

    // A process that ended after it had made a key, and before anything was sealed with it.
    server.kill();
    fs::write(&key_file, format!("{after}3 {}\n", "0a".repeat(32))).unwrap();
    server.run();
    server.wait_ready();
    eventually("the rotation is done", || {
        let told = status(&server);
        (told["keys"] == json!([3]) && told["values"].get("2").is_none()).then_some(())
    });
    assert_eq!(decoded(&space.kubectl), SECRET);
    is_sealed();
    drop(space);
    server.tear_down();
}
