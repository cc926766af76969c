//! Watches over the mirror, from before it, and through a compaction.

use kv::{Error, KeyRange, Kv, MemoryKv, RangeRequest};
use remote::Options;
use std::sync::Arc;

use crate::front::{self, Front};
use crate::support::{delete, get, next, open, open_with, put, quiet, run, until, watch};

#[test]
fn a_watch_from_before_the_mirror_tells_what_etcd_remembers_and_goes_on() {
    run(async {
        let (kv, front) = front::memory().await;
        put(&*kv, "a/1", b"1").await.unwrap();
        put(&*kv, "b", b"").await.unwrap();
        put(&*kv, "a/1", b"2").await.unwrap();
        delete(&*kv, "a/1").await.unwrap();
        let store = open(&front.url).await;
        let mut past = watch(&*store, KeyRange::prefix("a/"), Some(2)).await;
        let mut told = vec![next(&mut past).await];
        while !told.last().unwrap().contains("delete") {
            told.push(next(&mut past).await);
        }
        assert_eq!(
            told.join(", "),
            "put a/1=1 created 2 modified 2 version 1 lease 0 was None, \
             put a/1=2 created 2 modified 4 version 2 lease 0 was Some(\"a/1=1 created 2 modified 2 version 1 lease 0\"), \
             delete a/1 at 5 was Some(\"a/1=2 created 2 modified 4 version 2 lease 0\")"
        );
        put(&*kv, "a/2", b"3").await.unwrap();
        assert_eq!(
            next(&mut past).await,
            "put a/2=3 created 6 modified 6 version 1 lease 0 was None"
        );
        assert_eq!(
            get(&*store, "a/1", Some(3)).await.unwrap().as_deref(),
            Some("1")
        );
        kv.compact(4).await.unwrap();
        assert_eq!(
            get(&*store, "a/1", Some(3)).await,
            Err(Error::Compacted {
                compact_revision: 4
            })
        );
        let mut late = watch(&*store, KeyRange::prefix("a/"), Some(3)).await;
        assert_eq!(next(&mut late).await, "compacted 4");
    });
}

#[test]
fn a_read_sees_every_write_that_was_answered_before_it() {
    run(async {
        let (kv, front) = front::memory().await;
        let mirrored = Options {
            mirrored: KeyRange::prefix("/registry/"),
            ..quiet()
        };
        let store = open_with(&front.url, mirrored).await;
        for number in 0..200 {
            let value = number.to_string();
            put(&*kv, "/registry/a", value.as_bytes()).await.unwrap();
            // What is not mirrored moves the revision too.
            put(&*kv, "/elsewhere", value.as_bytes()).await.unwrap();
            assert_eq!(
                get(&*store, "/registry/a", None).await.unwrap(),
                Some(value.clone())
            );
            assert_eq!(store.current_revision(), kv.current_revision());
            assert_eq!(get(&*store, "/elsewhere", None).await.unwrap(), Some(value));
        }
        let outside = kv::WatchRequest {
            range: KeyRange::key("/elsewhere"),
            start_revision: None,
        };
        let refused = store.watch(outside).await.unwrap_err();
        assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
    });
}

#[test]
fn what_was_compacted_while_nobody_answered_ends_the_watches_and_is_read_again() {
    run(async {
        let kv = MemoryKv::new();
        let front = Front::start(Arc::clone(&kv) as Arc<dyn Kv>).await;
        let store = open(&front.url).await;
        put(&*store, "a", b"1").await.unwrap();
        put(&*store, "gone", b"1").await.unwrap();
        let newest = RangeRequest::newest(KeyRange::key("a"));
        store.range(newest).await.unwrap();
        let mut running = watch(&*store, KeyRange::prefix(""), None).await;
        let mut future = watch(&*store, KeyRange::prefix(""), Some(1000)).await;
        let stopped = front.stop().await;
        put(&*kv, "a", b"2").await.unwrap();
        delete(&*kv, "gone").await.unwrap();
        put(&*kv, "a", b"3").await.unwrap();
        kv.compact(kv.current_revision()).await.unwrap();
        let _front = stopped.start().await;
        assert!(next(&mut running).await.starts_with("compacted "));
        assert!(running.messages.recv().await.is_none());
        assert_eq!(get(&*store, "a", None).await.unwrap().as_deref(), Some("3"));
        assert_eq!(get(&*store, "gone", None).await.unwrap(), None);
        let mut again = watch(&*store, KeyRange::prefix(""), None).await;
        put(&*kv, "a", b"4").await.unwrap();
        assert!(next(&mut again).await.starts_with("put a=4"));
        assert!(future.messages.try_recv().is_err());
    });
}

#[test]
fn servers_that_share_an_etcd_compact_it_once_and_forget_the_same() {
    run(async {
        let (kv, front) = front::memory().await;
        let often = || Options {
            auto_compaction: Some(std::time::Duration::from_millis(200)),
            ..quiet()
        };
        let stores = [
            open_with(&front.url, often()).await,
            open_with(&front.url, often()).await,
        ];
        for number in 0..20 {
            put(&*kv, "a", number.to_string().as_bytes()).await.unwrap();
        }
        until(|| async {
            put(&*kv, "b", b"").await.unwrap();
            let both = stores.iter().map(|store| get(&**store, "a", Some(5)));
            let both = futures_util::future::join_all(both).await;
            both.iter()
                .all(|read| matches!(read, Err(Error::Compacted { .. })))
        })
        .await;
    });
}
