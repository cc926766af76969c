//! A full disk: writes fail clearly, readers go on, and writes work again once there is space.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kv::{Error, KeyRange, Kv};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::support::{drain, get, open, put, run, watch};

/// A small disk in memory, mounted as long as it lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` if it cannot be had here and skipping was allowed.
    fn new(megabytes: u32) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let size = std::ffi::CString::new(format!("size={megabytes}m")).expect("no zero byte");
        match mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(size.as_c_str()),
        ) {
            Ok(()) => Some(Self(directory)),
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

/// Writes that are refused one after the other before the disk counts as full.
const REFUSALS: usize = 20;

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    run(async {
        let Some(disk) = SmallDisk::new(32) else {
            return;
        };
        let ballast = disk.file("ballast");
        fs::write(&ballast, vec![0; 8 << 20]).unwrap();
        let store = open(&disk.file("state.db"));
        let value = vec![b'x'; 200_000];
        let (mut written, mut failed) = (0, 0);
        // A refused write makes the store move its log into the database, which may give a little space once more.
        while failed < REFUSALS {
            match put(&*store, &format!("k/{written}"), &value).await {
                Ok(revision) => {
                    written += 1;
                    failed = 0;
                    assert_eq!(revision, 1 + written);
                }
                Err(error) => {
                    assert_eq!(error, Error::NoSpace);
                    failed += 1;
                    env::sleep(Duration::from_millis(2)).await;
                }
            }
            assert!(written < 1000, "the disk is never full");
        }
        let revision = store.current_revision();
        assert_eq!(revision, 1 + written);
        assert_eq!(get(&*store, "k/0", Some(2)).await.unwrap().unwrap(), value);
        assert_eq!(
            get(&*store, &format!("k/{written}"), None).await.unwrap(),
            None
        );

        fs::remove_file(&ballast).unwrap();
        assert_eq!(put(&*store, "k/x", b"again").await.unwrap(), revision + 1);
        let events = drain(&mut watch(&*store, KeyRange::key("k/x"), Some(2)).await).await;
        assert_eq!(events.len(), 2, "{events:?}");
        store.close().await.unwrap();
        let store = open(&disk.file("state.db"));
        assert_eq!(store.current_revision(), revision + 1);
        assert_eq!(get(&*store, "k/x", None).await.unwrap().unwrap(), b"again");
        store.close().await.unwrap();
    });
}

#[test]
fn a_disk_too_small_for_the_log_in_advance_still_works() {
    run(async {
        let Some(disk) = SmallDisk::new(2) else {
            return;
        };
        let store = open(&disk.file("state.db"));
        for number in 0..20 {
            put(&*store, "a", number.to_string().as_bytes())
                .await
                .unwrap();
        }
        store.close().await.unwrap();
    });
}
