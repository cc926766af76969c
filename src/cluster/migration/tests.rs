//! A database as k3s leaves it becomes a store of ours, or nothing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bootstrap::DataDir;
use env::{SystemRng, Timestamp};
use kv::{KeyRange, Kv as _, RangeRequest};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use sqlite::{Options, SealedPrefix, SealingKeys, SqliteKv};

use super::*;

mod there_and_back;

const TABLE: &str = "
CREATE TABLE kine (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER,
  create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
CREATE INDEX kine_name_index ON kine (name);
CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);
PRAGMA journal_mode=WAL;";

struct Kine(Connection);

impl Kine {
    fn new(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch(TABLE).unwrap();
        Self(connection)
    }

    fn row(&self, name: &str, (created, deleted): (i64, i64), revisions: (i64, i64), value: &[u8]) {
        let insert = "INSERT INTO kine(name, created, deleted, create_revision, prev_revision, lease, value) \
                      VALUES(?1, ?2, ?3, ?4, ?5, 0, ?6)";
        let values = params![name, created, deleted, revisions.0, revisions.1, value];
        self.0.execute(insert, values).unwrap();
    }
}

fn protobuf(object: &Value) -> Vec<u8> {
    let (version, kind) = (
        object["apiVersion"].as_str().unwrap(),
        object["kind"].as_str().unwrap(),
    );
    let (group, bare) = version.rsplit_once('/').unwrap_or(("", version));
    let of = schema::built_in(group, bare, kind).unwrap();
    codec::protobuf::encode(&serde_json::to_vec(object).unwrap(), of, version, kind).unwrap()
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "NodePort", "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30123}],
        },
    })
}

fn sealed_by(keys: Arc<SealingKeys>) -> Vec<SealedPrefix> {
    vec![SealedPrefix {
        prefix: b"/registry/secrets/".to_vec(),
        sealer: keys,
    }]
}

async fn run(source: &Path, to: &Path) -> Result<Migrated> {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    migrate(
        Source::Kine(source),
        &DataDir::at(to),
        sealed_by,
        (now, &SystemRng::shared()),
    )
    .await
}

/// Four objects, one of them changed, and what is none: a deleted one, an address of a server, kine's own key.
fn fill(kine: &Kine) {
    let map = |text: &str| {
        protobuf(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}, "data": {"text": text},
        }))
    };
    kine.row("compact_rev_key", (1, 0), (0, 0), b"");
    kine.row("/registry/configmaps/shop/a", (1, 0), (0, 0), &map("1"));
    kine.row("/registry/configmaps/shop/a", (0, 0), (2, 2), &map("2"));
    kine.row("/registry/configmaps/shop/gone", (1, 0), (0, 0), &map("3"));
    kine.row("/registry/configmaps/shop/gone", (0, 1), (4, 4), &map("3"));
    kine.row(
        "/registry/services/specs/shop/web",
        (1, 0),
        (0, 0),
        &protobuf(&service()),
    );
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}, "type": "Opaque",
        "data": {"word": "aGlkZGVu"},
    });
    kine.row(
        "/registry/secrets/shop/s",
        (1, 0),
        (0, 0),
        &protobuf(&secret),
    );
    let custom = br#"{"apiVersion":"example.com/v1","kind":"Car","metadata":{"name":"c","resourceVersion":"3"},"spec":{}}"#;
    kine.row("/registry/example.com/cars/c", (1, 0), (0, 0), custom);
    kine.row("/registry/masterleases/10.0.0.1", (1, 0), (0, 0), b"k8s\0");
}

#[tokio::test]
async fn objects_that_are_there_come_over_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("state.db");
    let kine = Kine::new(&source);
    fill(&kine);
    let before = fs::read(&source).unwrap();
    let in_use = run(&source, &folder.path().join("data")).await.unwrap_err();
    assert!(matches!(in_use, Error::InUse { .. }), "{in_use}");
    drop(kine);

    let data = folder.path().join("data");
    let migrated = run(&source, &data).await.unwrap();
    assert_eq!(
        (migrated.objects, migrated.claims, migrated.left_out.len()),
        (4, 2, 2)
    );
    assert!(fs::read(&source).unwrap().len() >= before.len());
    let data_dir = DataDir::at(&data);
    let keys = SealingKeys::load(&data_dir.encryption_key(), SystemRng::shared()).unwrap();
    let options = Options {
        sealers: sealed_by(keys),
        ..Options::default()
    };
    let store = SqliteKv::open(&data_dir.database(), options).unwrap();
    let all = store
        .range(RangeRequest::newest(KeyRange::prefix("")))
        .await
        .unwrap();
    let found: Vec<(String, i64, i64)> = all
        .entries
        .iter()
        .map(|entry| {
            (
                String::from_utf8_lossy(&entry.key).into_owned(),
                entry.mod_revision,
                entry.version,
            )
        })
        .collect();
    let expected = [
        ("/registry/configmaps/shop/a", 3, 2),
        ("/registry/example.com/cars/c", 8, 1),
        ("/registry/ipaddresses/10.43.0.7", 10, 1),
        ("/registry/ranges/servicenodeports/30123", 11, 1),
        ("/registry/secrets/shop/s", 7, 1),
        ("/registry/services/shop/web", 6, 1),
    ];
    assert_eq!(
        found,
        expected.map(|(key, revision, version)| (key.to_owned(), revision, version))
    );
    let map: Value = serde_json::from_slice(&all.entries[0].value).unwrap();
    assert_eq!(
        (&map["data"]["text"], &map["kind"]),
        (&json!("2"), &json!("ConfigMap"))
    );
    assert!(
        all.entries[0]
            .value
            .starts_with(br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"#)
    );
    assert_eq!(*all.entries[3].value, *b"shop/web");
    assert!(store.current_revision() > 1000);
    store.close().await.unwrap();
    let again = run(&source, &data).await.unwrap_err();
    assert!(matches!(again, Error::NotEmpty(_)), "{again}");
}

#[tokio::test]
async fn what_cannot_be_taken_over_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let other = folder.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE x(y)")
        .unwrap();
    let error = run(&other, &data).await.unwrap_err();
    assert!(matches!(error, Error::NotKine { .. }), "{error}");
    for (name, value) in [
        ("sealed", &b"k8s:enc:aescbc:v1:key:x"[..]),
        ("cut", b"k8s\0\x0a\xff"),
    ] {
        let source = folder.path().join(name);
        let kine = Kine::new(&source);
        kine.row("/registry/secrets/shop/s", (1, 0), (0, 0), value);
        drop(kine);
        let error = run(&source, &data).await.unwrap_err();
        assert!(
            error.to_string().starts_with("/registry/secrets/shop/s"),
            "{error}"
        );
        assert!(!DataDir::at(&data).database().exists());
        assert!(!data.join(".migrating").exists());
    }
}
