//! From an etcd, and back to an etcd or to k3s: our own etcd's API in front of a store in memory, and a real etcd where
//! the variable `COMBO_ETCD` names one.

use std::net::Ipv4Addr;

use ::etcd::{Door, Identity};
use env::{Shutdown, ShutdownTrigger};
use etcd_testing::Etcd;
use kv::{Durability, MemoryKv, Operation, Txn};
use remote::{Client, Endpoints, Repeat, Security};

use super::*;

/// More than one page.
const MAPS: usize = 620;

struct Front {
    client: Client,
    kv: Arc<dyn kv::Kv>,
    _trigger: ShutdownTrigger,
}

impl Front {
    async fn start() -> Self {
        let kv: Arc<dyn kv::Kv> = MemoryKv::new();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let identity = Identity::derived(b"cluster", "member", vec![url.clone()]);
        let (trigger, shutdown): (_, Shutdown) = Shutdown::new();
        let served = Arc::clone(&kv);
        env::spawn(async move {
            ::etcd::serve(served, identity, listener, Door::Open, shutdown).await;
        });
        Self {
            client: client(&url),
            kv,
            _trigger: trigger,
        }
    }

    async fn put(&self, puts: Vec<(String, Vec<u8>)>) -> i64 {
        let put = |(key, value): (String, Vec<u8>)| Operation::Put {
            key: key.into_bytes(),
            value: value.into(),
            lease: 0,
        };
        let txn = Txn {
            success: puts.into_iter().map(put).collect(),
            ..Txn::default()
        };
        self.kv
            .txn(txn, Durability::Durable)
            .await
            .unwrap()
            .revision
    }
}

fn client(url: &str) -> Client {
    Client::new(Endpoints::parse(url).unwrap(), Security::Plain)
}

fn map(name: &str) -> (String, Vec<u8>) {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": {"text": name},
    });
    (
        format!("/registry/configmaps/shop/{name}"),
        protobuf(&object),
    )
}

fn node() -> (String, Vec<u8>) {
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}, "spec": {}, "status": {}});
    ("/registry/minions/one".to_owned(), protobuf(&object))
}

async fn migrate_from(source: Source<'_>, to: &Path) -> Result<Migrated> {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    let means = (now, &SystemRng::shared());
    migrate(source, &DataDir::at(to), sealed_by, means).await
}

/// A server's store with a Service, a Secret, a Node and many ConfigMaps in it, made of what an etcd held.
async fn filled(data: &Path) -> Migrated {
    let front = Front::start().await;
    for chunk in (0..MAPS).collect::<Vec<_>>().chunks(100) {
        let maps = chunk.iter().map(|number| map(&format!("m{number:04}")));
        front.put(maps.collect()).await;
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}, "type": "Opaque",
        "data": {"word": "aGlkZGVu"},
    });
    let secret = ("/registry/secrets/shop/s".to_owned(), protobuf(&secret));
    let web = (
        "/registry/services/specs/shop/web".to_owned(),
        protobuf(&service()),
    );
    let other = ("/another/program".to_owned(), b"x".to_vec());
    let lease = ("/registry/masterleases/10.0.0.1".to_owned(), b"x".to_vec());
    let revision = front.put(vec![secret, web, node(), other, lease]).await;
    let migrated = migrate_from(Source::Etcd(&front.client), data)
        .await
        .unwrap();
    // The source is as it was.
    assert_eq!(front.kv.current_revision(), revision);
    migrated
}

#[tokio::test]
async fn all_pages_of_an_etcd_come_over_and_its_encrypted_values_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let migrated = filled(&folder.path().join("data")).await;
    let counts = (migrated.objects, migrated.claims, migrated.left_out.len());
    assert_eq!(counts, (MAPS + 3, 2, 1));

    let front = Front::start().await;
    let empty = migrate_from(Source::Etcd(&front.client), &folder.path().join("b")).await;
    assert!(empty.unwrap_err().to_string().contains("--etcd-prefix"));
    let sealed = b"k8s:enc:secretbox:v1:key:x".to_vec();
    front
        .put(vec![("/registry/secrets/a/b".to_owned(), sealed)])
        .await;
    let refused = migrate_from(Source::Etcd(&front.client), &folder.path().join("b")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("/registry/secrets/a/b is encrypted"),
        "{refused}"
    );
    assert!(refused.contains("EncryptionConfiguration"), "{refused}");
    assert!(!folder.path().join("b/server/db").exists());
    let nobody = client("http://127.0.0.1:1");
    let nobody = migrate_from(Source::Etcd(&nobody), &folder.path().join("b")).await;
    assert!(nobody.unwrap_err().to_string().contains("127.0.0.1:1"));
}

#[tokio::test]
async fn k3s_reads_what_is_exported_and_so_do_we() {
    let folder = tempfile::tempdir().unwrap();
    let (data, again) = (folder.path().join("data"), folder.path().join("again"));
    filled(&data).await;
    let file = folder.path().join("state.db");
    let to = Target::Kine(&file);
    let rng = SystemRng::shared();
    let exported = export(&DataDir::at(&data), to, sealed_by, &rng)
        .await
        .unwrap();
    // The port is kept in another form; the address is an object.
    assert_eq!((exported.objects, exported.left_out.len()), (MAPS + 4, 1));

    let kine = Connection::open(&file).unwrap();
    let number = |query: &str| {
        kine.query_row(query, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let revision = exported.revision;
    assert_eq!(number("SELECT max(id) FROM kine"), revision);
    assert_eq!(
        number("SELECT seq FROM sqlite_sequence WHERE name = 'kine'"),
        revision
    );
    let compacted = "SELECT prev_revision FROM kine WHERE name = 'compact_rev_key'";
    assert_eq!(number(compacted), revision);
    let node = "SELECT count(*) FROM kine WHERE name = '/registry/minions/one' AND created = 1";
    assert_eq!(number(node), 1);
    assert_eq!(
        number("SELECT count(*) FROM sqlite_schema WHERE type = 'index'"),
        6
    );
    // What the next compaction of kine would take away, of objects that are there.
    let lost = "SELECT count(*) FROM kine WHERE id IN
                (SELECT prev_revision FROM kine WHERE name != 'compact_rev_key' AND prev_revision != 0)";
    assert_eq!(number(lost), 0);
    drop(kine);
    let twice = export(&DataDir::at(&data), to, sealed_by, &rng).await;
    assert!(matches!(twice, Err(Error::TargetExists(_))), "{twice:?}");

    let migrated = migrate_from(Source::Kine(&file), &again).await.unwrap();
    assert_eq!((migrated.objects, migrated.claims), (MAPS + 4, 1));
    assert!(!data.join(".exporting").exists() && !file.with_extension("db.unfinished").exists());
}

#[tokio::test]
async fn an_etcd_without_objects_gets_them_all() {
    let front = Front::start().await;
    there_and_back(&front.client).await;
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::named(folder.path()) else {
        eprintln!("not with a real etcd: the variable COMBO_ETCD names none");
        return;
    };
    let etcd = etcd.unwrap();
    there_and_back(&client(&etcd.url())).await;
}

async fn there_and_back(client: &Client) {
    let folder = tempfile::tempdir().unwrap();
    let (data, again) = (folder.path().join("data"), folder.path().join("again"));
    filled(&data).await;
    let rng = SystemRng::shared();
    let to = Target::Etcd(client);
    let exported = export(&DataDir::at(&data), to, sealed_by, &rng)
        .await
        .unwrap();
    assert_eq!(exported.objects, MAPS + 4);
    let twice = export(&DataDir::at(&data), to, sealed_by, &rng).await;
    let twice = twice.unwrap_err().to_string();
    assert!(
        twice.contains(&format!("{} keys below", MAPS + 4)),
        "{twice}"
    );
    let get = |client: Client, request| async move { client.kv().range(request).await };
    let request = ::etcd::proto::etcdserverpb::RangeRequest {
        key: b"/registry/services/specs/shop/web".to_vec(),
        ..Default::default()
    };
    let found = client.call(Repeat::Allowed, request, get).await.unwrap();
    let service: Value = serde_json::from_slice(&found.kvs[0].value).unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.7");
    let migrated = migrate_from(Source::Etcd(client), &again).await.unwrap();
    assert_eq!((migrated.objects, migrated.claims), (MAPS + 4, 1));
}
