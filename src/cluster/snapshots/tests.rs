//! A cluster that is saved comes back as it was, and nothing else does.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bootstrap::{Credentials, DataDir, Said, SaidTokens, ServingNames};
use env::{Rng, SystemClock, SystemRng, Timestamp};
use kv::{Durability, Kv, Operation, Txn};
use sqlite::{Options, SealedPrefix, SealingKeys, SqliteKv};

use super::*;

mod s3;

const SECRET: &[u8] = b"nobody reads this";

struct Cluster {
    folder: tempfile::TempDir,
    data_dir: DataDir,
    store: Arc<SqliteKv>,
    rng: Arc<dyn Rng>,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::prepare(&folder.path().join("data")).unwrap();
        let rng = SystemRng::shared();
        let said = Said {
            tokens: SaidTokens::default(),
            certificate_life: Duration::from_secs(86_400),
        };
        let names = ServingNames::default();
        Credentials::load_or_make(&data_dir, &names, &said, (&*SystemClock::shared(), &*rng))
            .unwrap();
        fs::write(data_dir.manifests().join("add-on.yaml"), "kind: ConfigMap").unwrap();
        let store = open(&data_dir, &rng);
        Self {
            folder,
            data_dir,
            store,
            rng,
        }
    }

    fn save(&self, series: &str, at: i64, passphrase: Option<Passphrase>) -> Saved {
        let options = SaveOptions {
            folder: self.folder.path().join("snapshots"),
            series: series.to_owned(),
            node: "node".to_owned(),
            compression: Compression::Zstd,
            passphrase,
            version: "1".to_owned(),
        };
        save(
            &self.data_dir,
            &options,
            Timestamp::from_unix_seconds(at),
            &self.rng,
        )
        .unwrap()
    }

    fn passphrase(&self, text: &str) -> Passphrase {
        let path = self.folder.path().join("passphrase");
        fs::write(&path, text).unwrap();
        Passphrase::read(&path).unwrap()
    }

    fn blank(&self, name: &str) -> DataDir {
        DataDir::at(&self.folder.path().join(name))
    }

    fn restore(&self, snapshot: &Path, to: &DataDir) -> Result<Restored> {
        self.restore_with(snapshot, to, None, Existing::Refuse)
    }

    fn restore_with(
        &self,
        snapshot: &Path,
        to: &DataDir,
        passphrase: Option<&Passphrase>,
        existing: Existing,
    ) -> Result<Restored> {
        let now = Timestamp::from_unix_seconds(7);
        restore(snapshot, to, passphrase, existing, (now, &self.rng))
    }
}

fn open(data_dir: &DataDir, rng: &Arc<dyn Rng>) -> Arc<SqliteKv> {
    let sealer = SealingKeys::load_or_create(&data_dir.encryption_key(), rng.clone()).unwrap();
    let options = Options {
        sealers: vec![SealedPrefix {
            prefix: b"s/".to_vec(),
            sealer,
        }],
        ..Options::default()
    };
    SqliteKv::open(&data_dir.database(), options).unwrap()
}

async fn put(store: &SqliteKv, key: &str, value: &[u8]) -> i64 {
    let put = Operation::Put {
        key: key.into(),
        value: value.into(),
        lease: 0,
    };
    let txn = Txn {
        success: vec![put],
        ..Txn::default()
    };
    store.txn(txn, Durability::Durable).await.unwrap().revision
}

async fn get(store: &SqliteKv, key: &str) -> Option<Vec<u8>> {
    let range = kv::RangeRequest::newest(kv::KeyRange::key(key));
    let found = store.range(range).await.unwrap();
    found.entries.first().map(|entry| entry.value.to_vec())
}

/// Every file below a folder, with what is in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(contents(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_blank_folder_becomes_the_cluster_that_was_saved_while_it_ran() {
    let cluster = Cluster::new();
    put(&cluster.store, "a", b"1").await;
    let revision = put(&cluster.store, "s/x", SECRET).await;
    let saved = cluster.save("on-demand", 5, None);
    put(&cluster.store, "later", b"1").await;
    assert_eq!(saved.header.revision, revision);
    assert_eq!(saved.path.file_name().unwrap(), "on-demand-node-5.snapshot");
    let bytes = fs::read(&saved.path).unwrap();
    assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET));

    let restored_to = cluster.blank("restored");
    let restored = cluster.restore(&saved.path, &restored_to).unwrap();
    assert_eq!((restored.keys, restored.set_aside), (2, None));
    for file in [
        "tls/server-ca.key",
        "tls/client-admin.key",
        "cred/encryption.key",
        "token",
        "manifests/add-on.yaml",
    ] {
        let read =
            |data_dir: &DataDir| fs::read(data_dir.root().join("server").join(file)).unwrap();
        assert_eq!(read(&restored_to), read(&cluster.data_dir), "{file}");
    }
    let store = open(&restored_to, &cluster.rng);
    assert_eq!(get(&store, "s/x").await, Some(SECRET.to_vec()));
    assert_eq!(get(&store, "later").await, None);
    assert!(store.current_revision() > cluster.store.current_revision());
    store.close().await.unwrap();
}

#[tokio::test]
async fn whatever_is_cut_or_changed_is_refused_and_nothing_is_written() {
    let cluster = Cluster::new();
    put(&cluster.store, "a", b"1").await;
    let whole = fs::read(cluster.save("on-demand", 5, None).path).unwrap();
    let to = cluster.blank("restored");
    let changed = cluster.folder.path().join("changed");
    let lengths = [
        0,
        7,
        11,
        100,
        whole.len() / 2,
        whole.len() - 33,
        whole.len() - 1,
    ];
    let cuts = lengths.iter().map(|length| whole[..*length].to_vec());
    let flips = (0..whole.len())
        .step_by(997)
        .chain([0, 8, 12, whole.len() - 1]);
    let flips = flips.map(|place| {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        bytes
    });
    for bytes in cuts.chain(flips) {
        fs::write(&changed, bytes).unwrap();
        cluster.restore(&changed, &to).unwrap_err();
        assert!(!to.root().exists());
    }
    fs::write(&changed, &whole).unwrap();
    cluster.restore(&changed, &to).unwrap();
}

#[tokio::test]
async fn a_running_server_and_a_cluster_that_is_there_are_left_alone() {
    let cluster = Cluster::new();
    put(&cluster.store, "a", b"1").await;
    let saved = cluster.save("on-demand", 5, None);
    let running = cluster.restore_with(&saved.path, &cluster.data_dir, None, Existing::SetAside);
    assert!(matches!(running, Err(Error::Running(_))), "{running:?}");
    put(&cluster.store, "later", b"1").await;
    cluster.store.close().await.unwrap();
    let before = contents(cluster.data_dir.root());
    let refused = cluster.restore(&saved.path, &cluster.data_dir);
    assert!(matches!(refused, Err(Error::NotEmpty(_))), "{refused:?}");
    assert_eq!(contents(cluster.data_dir.root()), before);

    let restored = cluster
        .restore_with(&saved.path, &cluster.data_dir, None, Existing::SetAside)
        .unwrap();
    let aside = restored.set_aside.unwrap();
    assert_eq!(aside.file_name().unwrap(), "server-before-7");
    assert!(aside.join("db/state.db").is_file());
    let store = open(&cluster.data_dir, &cluster.rng);
    assert_eq!(get(&store, "later").await, None);
    assert_eq!(get(&store, "a").await, Some(b"1".to_vec()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn wrapped_keys_open_with_their_passphrase_only() {
    let cluster = Cluster::new();
    put(&cluster.store, "s/x", SECRET).await;
    let passphrase = cluster.passphrase("correct horse\n");
    let saved = cluster.save("on-demand", 5, Some(passphrase.clone()));
    let to = cluster.blank("restored");
    let restore =
        |with: Option<&Passphrase>| cluster.restore_with(&saved.path, &to, with, Existing::Refuse);
    assert!(matches!(restore(None), Err(Error::PassphraseMissing(_))));
    let wrong = cluster.passphrase("wrong horse");
    assert!(matches!(
        restore(Some(&wrong)),
        Err(Error::WrongPassphrase(_))
    ));
    assert!(!to.root().exists());
    restore(Some(&passphrase)).unwrap();
}

#[tokio::test]
async fn of_a_series_the_newest_stay_and_others_are_left_alone() {
    let cluster = Cluster::new();
    put(&cluster.store, "a", b"1").await;
    for at in 1..=4 {
        cluster.save("scheduled", at, None);
    }
    let folder = cluster.save("on-demand", 9, None).path;
    let folder = folder.parent().unwrap();
    fs::write(folder.join("odd.snapshot"), "odd").unwrap();
    let removed = prune(folder, "scheduled", 2).unwrap();
    assert_eq!(
        removed,
        ["scheduled-node-2.snapshot", "scheduled-node-1.snapshot"]
    );
    let left: Vec<String> = list(folder)
        .unwrap()
        .into_iter()
        .map(|listed| listed.name)
        .collect();
    assert_eq!(
        left,
        [
            "on-demand-node-9.snapshot",
            "scheduled-node-4.snapshot",
            "scheduled-node-3.snapshot",
            "odd.snapshot",
        ]
    );
    delete(folder, "on-demand-node-9.snapshot").unwrap();
    let unknown = delete(folder, "../data/server/token").unwrap_err();
    assert!(matches!(unknown, Error::Unknown { .. }), "{unknown}");
}

#[tokio::test]
async fn a_damaged_store_gives_no_snapshot_and_leaves_nothing() {
    let cluster = Cluster::new();
    put(&cluster.store, "s/x", SECRET).await;
    let key = cluster.data_dir.encryption_key();
    fs::write(&key, format!("9 {}\n", "ab".repeat(32))).unwrap();
    let options = SaveOptions {
        folder: cluster.folder.path().join("snapshots"),
        series: "x".to_owned(),
        node: "node".to_owned(),
        compression: Compression::None,
        passphrase: None,
        version: "1".to_owned(),
    };
    let now = Timestamp::from_unix_seconds(1);
    let refused = save(&cluster.data_dir, &options, now, &cluster.rng);
    assert!(
        matches!(refused, Err(Error::DamagedStore(_))),
        "{refused:?}"
    );
    let left: Vec<_> = contents(&options.folder)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(left, [options.folder.join(".lock")]);
}
