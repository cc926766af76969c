//! Leases, automatic compaction and relaxed writes, by a clock that moves when it is told to.

use std::sync::Arc;
use std::time::Duration;

use env::{Clock, ManualClock, Timestamp};
use kv::{Durability, Error, KeyRange, Kv, Operation, Txn};
use sqlite::{Options, SqliteKv};

use crate::support::{
    directory, drain, file, get, put, put_operation, quiet, run, until, watch, write,
};

fn with_clock(clock: &Arc<ManualClock>) -> Options {
    Options {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        ..quiet()
    }
}

fn put_with_lease(key: &str, lease: i64) -> Operation {
    Operation::Put {
        key: key.into(),
        value: Arc::from(&b"v"[..]),
        lease,
    }
}

#[test]
fn a_lease_outlives_a_restart_with_its_full_time_and_then_takes_its_keys_in_one_revision() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let store = SqliteKv::open(&path, with_clock(&clock)).unwrap();
        let lease = store
            .lease_grant(0, Duration::from_secs(100))
            .await
            .unwrap()
            .id;
        write(
            &*store,
            vec![put_with_lease("a", lease), put_with_lease("b", lease)],
        )
        .await
        .unwrap();
        clock.advance(Duration::from_secs(90));
        store.close().await.unwrap();

        let store = SqliteKv::open(&path, with_clock(&clock)).unwrap();
        let status = store.lease_status(lease).await.unwrap();
        assert_eq!(
            (status.remaining, status.keys.len()),
            (Duration::from_secs(100), 2)
        );
        let mut stream = watch(&*store, KeyRange::prefix(""), None).await;
        clock.advance(Duration::from_secs(100));
        store.check_time();
        until(|| async { store.current_revision() == 3 }).await;
        let events = drain(&mut stream).await;
        assert!(
            events[0].starts_with("delete a at 3") && events[1].starts_with("delete b at 3"),
            "{events:?}"
        );
        assert_eq!(
            store.lease_keep_alive(lease).await,
            Err(Error::LeaseNotFound)
        );
        store.close().await.unwrap();
        let store = SqliteKv::open(&path, with_clock(&clock)).unwrap();
        assert_eq!(
            (store.leases().await.unwrap(), store.current_revision()),
            (vec![], 3)
        );
    });
}

#[test]
fn the_store_forgets_history_after_five_minutes_by_itself() {
    run(async {
        let directory = directory();
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let options = Options {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..Options::default()
        };
        let store = SqliteKv::open(&file(&directory), options).unwrap();
        put(&*store, "a", b"1").await.unwrap();
        put(&*store, "a", b"2").await.unwrap();
        until(|| async {
            clock.advance(Duration::from_mins(5));
            store.check_time();
            store.status().await.unwrap().compact_revision == 3
        })
        .await;
        assert_eq!(
            get(&*store, "a", Some(2)).await,
            Err(Error::Compacted {
                compact_revision: 3
            })
        );
        assert_eq!(get(&*store, "a", None).await.unwrap().unwrap(), b"2");
    });
}

#[test]
fn relaxed_writes_are_seen_at_once_and_on_disk_after_a_clean_stop() {
    run(async {
        let directory = directory();
        let path = file(&directory);
        let store = SqliteKv::open(&path, quiet()).unwrap();
        let mut stream = watch(&*store, KeyRange::prefix(""), None).await;
        for number in 0..50 {
            let txn = Txn {
                success: vec![put_operation("lease", number.to_string().as_bytes())],
                ..Txn::default()
            };
            assert_eq!(
                store.txn(txn, Durability::Relaxed).await.unwrap().revision,
                2 + number
            );
        }
        assert_eq!(drain(&mut stream).await.len(), 51);
        // History of what is not on disk yet is served from memory.
        assert_eq!(
            get(&*store, "lease", Some(20)).await.unwrap().unwrap(),
            b"18"
        );
        store.close().await.unwrap();
        let store = SqliteKv::open(&path, quiet()).unwrap();
        assert_eq!(store.current_revision(), 51);
        assert_eq!(
            get(&*store, "lease", Some(20)).await.unwrap().unwrap(),
            b"18"
        );
        store.close().await.unwrap();
    });
}
