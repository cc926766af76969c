//! A store that is as large as it may be, and a disk that is full.

use std::fs;
use std::path::PathBuf;

use etcd_testing::pb;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sqlite::{BALLAST_BYTES, Options};
use tempfile::TempDir;

use crate::support::{ALARM_NO_SPACE, NO_SPACE, Server, database, directory, quiet, run, told};

const QUOTA_BYTES: u64 = 2 << 20;
static VALUE: [u8; 20_000] = [b'x'; 20_000];

fn with_quota() -> Options {
    Options {
        quota_bytes: Some(QUOTA_BYTES),
        ..quiet()
    }
}

/// Writes until it is refused; tells how many keys there are.
async fn fill(server: &Server) -> usize {
    for number in 0..10_000 {
        if let Err(refused) = server.put(&format!("k/{number:05}"), &VALUE).await {
            assert_eq!(told(&refused), NO_SPACE);
            return number;
        }
    }
    panic!("nothing was ever refused");
}

#[test]
fn a_quota_raises_the_alarm_and_leaves_room_for_what_makes_room() {
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), with_quota()).await;
        let keys = fill(&server).await;
        assert!((50..105).contains(&keys), "{keys} keys of 20 kB in 2 MiB");
        assert_eq!(server.raised().await, [ALARM_NO_SPACE]);
        let status = server.client.call(pb::StatusRequest::default()).await;
        let status = status.unwrap();
        assert_eq!(status.db_size_quota, QUOTA_BYTES.cast_signed());
        assert!(status.errors[0].ends_with("alarm:NOSPACE "), "{status:?}");
        let (code, body) = server.page("/health").await;
        assert_eq!(
            (code, body.trim_end()),
            (503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#)
        );
        assert_eq!(server.page("/health?exclude=NOSPACE").await.0, 200);
        assert_eq!(server.page("/readyz").await.0, 200);
        refuses_what_adds(&server).await;

        // Nothing is free yet: the next put raises the alarm again.
        assert_eq!(server.disarm(pb::AlarmType::Nospace).await, 1);
        assert_eq!(server.disarm(pb::AlarmType::Nospace).await, 0);
        assert_eq!(told(&server.put("a", &VALUE).await.unwrap_err()), NO_SPACE);
        assert_eq!(server.raised().await, [ALARM_NO_SPACE]);

        // The alarm is there after a restart, and what it allows is done.
        server.stop().await;
        let server = Server::start(&database(&folder), with_quota()).await;
        assert_eq!(told(&server.put("a", b"1").await.unwrap_err()), NO_SPACE);
        for number in 0..keys - 5 {
            assert_eq!(server.delete(&format!("k/{number:05}")).await.unwrap(), 1);
        }
        server.compact(server.store_revision()).await.unwrap();
        assert_eq!(told(&server.put("a", b"1").await.unwrap_err()), NO_SPACE);
        assert_eq!(server.disarm(pb::AlarmType::Nospace).await, 1);
        server.put("a", &VALUE).await.unwrap();
        assert_eq!(server.everything().await.len(), 6);
        assert_eq!(server.page("/health").await.0, 200);
        server.stop().await;
        let left = fs::read_dir(folder.path()).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(!left.contains(&"state.db.alarms".into()), "{left:?}");
    });
}

async fn refuses_what_adds(server: &Server) {
    assert_eq!(
        told(&server.put("k/00000", b"").await.unwrap_err()),
        NO_SPACE
    );
    let grant = server.client.call(pb::LeaseGrantRequest { ttl: 60, id: 0 });
    assert_eq!(told(&grant.await.unwrap_err()), NO_SPACE);
    // On whichever branch, however deep.
    let put = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: b"a".to_vec(),
            ..Default::default()
        })),
    };
    let mut txn = pb::TxnRequest {
        failure: vec![put],
        ..Default::default()
    };
    for _ in 0..3 {
        let refused = server.client.call(txn.clone()).await.unwrap_err();
        assert_eq!(told(&refused), NO_SPACE);
        txn = pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestTxn(txn)),
            }],
            ..Default::default()
        };
    }
    assert_eq!(server.get("k/00000", 0).await.unwrap().unwrap(), VALUE);
}

/// A small disk in memory, mounted as long as it lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` if it cannot be had here and skipping was allowed.
    fn new(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = std::ffi::CString::new(format!("size={megabytes}m")).unwrap();
        let none = MountFlags::empty();
        match mount("tmpfs", folder.path(), "tmpfs", none, Some(size.as_c_str())) {
            Ok(()) => Some(Self(folder)),
            Err(_) if std::env::var("COMBO_ALLOW_SKIP").is_ok_and(|allowed| allowed == "1") => None,
            Err(error) => panic!("this test mounts a tmpfs and must run as root: {error}"),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _the_directory_stays_then = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn on_a_full_disk_deletes_work_and_puts_work_again_once_there_is_room() {
    run(async {
        let Some(disk) = SmallDisk::new(64) else {
            return;
        };
        let options = || Options {
            ballast_bytes: BALLAST_BYTES,
            ..quiet()
        };
        let server = Server::start(&disk.file("state.db"), options()).await;
        let filler = disk.file("filler");
        fs::write(&filler, vec![0; 25 << 20]).unwrap();
        let keys = fill(&server).await;
        assert!(keys > 10, "{keys}");
        assert!(!disk.file("state.db.ballast").exists());
        // It stays refused, and costs nobody else anything.
        assert_eq!(told(&server.put("a", &VALUE).await.unwrap_err()), NO_SPACE);
        assert_eq!(server.raised().await, [0; 0]);
        assert_eq!(server.everything().await.len(), keys);
        let before = server.store_revision();
        for number in 0..keys / 2 {
            assert_eq!(server.delete(&format!("k/{number:05}")).await.unwrap(), 1);
        }
        server.compact(server.store_revision()).await.unwrap();
        assert_eq!(server.store_revision(), before + (keys / 2) as i64);

        fs::remove_file(&filler).unwrap();
        server.put("a", &VALUE).await.unwrap();
        assert!(disk.file("state.db.ballast").exists());
        let everything = server.everything().await;
        assert_eq!(everything.len(), keys - keys / 2 + 1);
        server.stop().await;
        let server = Server::start(&disk.file("state.db"), options()).await;
        assert_eq!(server.everything().await, everything);
        server.stop().await;
    });
}
