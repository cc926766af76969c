//! Copies of snapshots in a bucket, of which a blank machine becomes the cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::UNIX_EPOCH;

use serde_json::Value;
use testkit::object_store::ObjectStore;

use crate::Test;
use crate::support::objects::config_map;
use crate::support::server::{combo, work_dir};
use crate::support::{Options, Server, Space, eventually};

pub(crate) const TESTS: &[Test] = &[
    (
        "scheduled_snapshots_are_copied_to_a_bucket_and_the_newest_stay_there",
        scheduled,
    ),
    (
        "a_blank_machine_becomes_the_cluster_of_a_copy_and_of_nothing_that_was_changed",
        restored,
    ),
];

/// `combo snapshot` with a bucket.
struct Bucket {
    store: ObjectStore,
    data_dir: PathBuf,
}

impl Bucket {
    fn flags(&self) -> Vec<String> {
        vec![
            "--s3".to_owned(),
            "--s3-insecure".to_owned(),
            format!("--s3-endpoint={}", self.store.address),
            format!("--s3-bucket={}", ObjectStore::BUCKET),
            "--etcd-s3-folder=edge".to_owned(),
        ]
    }

    fn run(&self, words: &[&str], secret_key: &str) -> Output {
        Command::new(combo())
            .arg("snapshot")
            .args(words)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(self.flags())
            .env("AWS_ACCESS_KEY_ID", ObjectStore::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret_key)
            .env("AWS_SESSION_TOKEN", ObjectStore::SESSION_TOKEN)
            .output()
            .expect("combo runs")
    }

    fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words, ObjectStore::SECRET_KEY);
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn fails(&self, words: &[&str], secret_key: &str) -> String {
        let done = self.run(words, secret_key);
        assert!(!done.status.success(), "{words:?}: {done:?}");
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        for secret in [ObjectStore::SECRET_KEY, ObjectStore::SESSION_TOKEN, "X-Amz"] {
            assert!(!told.contains(secret), "{told}");
        }
        told
    }

    fn keys(&self) -> BTreeSet<String> {
        self.store.keys().into_iter().collect()
    }
}

fn scheduled() {
    let bucket = Bucket {
        store: ObjectStore::start(),
        data_dir: work_dir().join("copied"),
    };
    let said = bucket.flags();
    let mut words: Vec<String> = said
        .iter()
        .map(|word| word.replace("--s3", "--etcd-s3"))
        .collect();
    words.extend([
        "--etcd-snapshot-schedule-cron=@every 1s".to_owned(),
        "--etcd-snapshot-compress".to_owned(),
        "--etcd-s3-retention=2".to_owned(),
        format!("--etcd-s3-access-key={}", ObjectStore::ACCESS_KEY),
        format!("--etcd-s3-secret-key={}", ObjectStore::SECRET_KEY),
    ]);
    let mut options = Options::control_plane_only();
    let words = words
        .into_iter()
        .map(|word| &*Box::leak(word.into_boxed_str()));
    options.flags.extend(words);
    let server = Server::start("copied", &options);
    let two = || {
        let keys = bucket.keys();
        let are_copies = keys
            .iter()
            .all(|key| key.starts_with("edge/etcd-snapshot-"));
        (keys.len() == 2 && are_copies).then_some(keys)
    };
    let first = eventually("two copies", two);
    eventually("two others", || {
        two().filter(|keys| keys.is_disjoint(&first))
    });
    // The flags of the server that runs, and not what the command's own file says.
    let told = Command::new(combo())
        .args(["snapshot", "schedule", "--data-dir"])
        .arg(&server.data_dir)
        .output()
        .expect("combo runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for line in [
        "server:    it runs",
        "schedule:  @every 1s",
        "s3://backups/edge/",
    ] {
        assert!(told.contains(line), "{told}");
    }
    assert!(!server.log().contains(ObjectStore::SECRET_KEY));
    server.tear_down();
}

fn restored() {
    let server = Server::start("fetched", &Options::control_plane_only());
    let bucket = Bucket {
        store: ObjectStore::start(),
        data_dir: server.data_dir.clone(),
    };
    let space = Space::on(&server, "fetched");
    space.kubectl.create(&config_map("before", "text", "1"));
    let folder = work_dir().join("fetched.snapshots");
    let folder = format!("--dir={}", folder.display());
    let refused = bucket.fails(&["save", &folder], "another");
    assert!(refused.contains("SignatureDoesNotMatch"), "{refused}");
    assert!(refused.contains("in its folder only"), "{refused}");
    let saved = bucket.ok(&["save", &folder, "--name=first"]);
    let place = saved.lines().last().unwrap();
    let name = place.strip_prefix("s3://backups/edge/").unwrap();
    assert_eq!(bucket.store.keys(), [format!("edge/{name}")]);

    let listed = bucket.ok(&["list", &folder, "-o", "json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let there = listed.iter().find(|one| one["location"] == place).unwrap();
    assert_eq!(
        (&there["series"], &there["name"]),
        (&"first".into(), &name.into())
    );
    assert_eq!(
        listed.len(),
        3,
        "two in the folder, one in the bucket: {listed:?}"
    );

    space.kubectl.ok(&["delete", "configmap", "before"]);
    drop(space);
    server.stop();
    server.clean_up();
    fs::remove_dir_all(&server.data_dir).unwrap();
    let whole = bucket.store.object(&format!("edge/{name}")).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    bucket.store.put(&format!("edge/{name}"), changed);
    let refused = bucket.fails(&["restore", name], ObjectStore::SECRET_KEY);
    assert!(refused.contains("is cut or changed"), "{refused}");
    assert!(!server.data_dir.exists());
    bucket.store.put(&format!("edge/{name}"), whole);
    bucket.ok(&["restore", name]);
    assert!(!has_downloads(&server.data_dir));
    fs::remove_file(&server.kubeconfig).unwrap();
    server.run();
    server.wait_ready();
    let kubectl = server.kubectl().in_namespace("fetched");
    assert_eq!(kubectl.get("configmap", "before")["data"]["text"], "1");

    let taken = name.strip_suffix(".snapshot").unwrap();
    let taken: u64 = taken.rsplit('-').next().unwrap().parse().unwrap();
    eventually("a second with a name of its own", || {
        (UNIX_EPOCH.elapsed().unwrap().as_secs() > taken).then_some(())
    });
    bucket.ok(&["save", "--name=first"]);
    let removed = bucket.ok(&["prune", "--name=first", "--snapshot-retention=1"]);
    assert_eq!(removed.trim(), format!("removed {name} from the bucket"));
    let [left] = &bucket.store.keys()[..] else {
        panic!("{:?}", bucket.store.keys());
    };
    let left = left.strip_prefix("edge/").unwrap().to_owned();
    let removed = bucket.ok(&["delete", &left]);
    assert_eq!(
        removed.lines().count(),
        2,
        "there and in the folder: {removed}"
    );
    assert!(bucket.store.keys().is_empty());
    let unknown = bucket.fails(&["restore", &left, "--replace"], ObjectStore::SECRET_KEY);
    assert!(unknown.contains("NoSuchKey"), "{unknown}");
    server.tear_down();
}

fn has_downloads(data_dir: &Path) -> bool {
    data_dir.join(".downloaded").exists()
}
