//! Members come and go: calls are answered by the others, watches lose nothing.

use std::sync::Arc;

use kv::{Error, KeyRange, Kv, MemoryKv};

use crate::front::Front;
use crate::support::{get, next, open, put, run, watch};

#[test]
fn another_member_goes_on_where_one_stops() {
    run(async {
        let kv: Arc<dyn Kv> = MemoryKv::new();
        let (first, second) = (
            Front::start(Arc::clone(&kv)).await,
            Front::start(Arc::clone(&kv)).await,
        );
        let store = open(&format!("{},{}", first.url, second.url)).await;
        let mut changes = watch(&*store, KeyRange::key("a"), None).await;
        put(&*store, "a", b"1").await.unwrap();
        assert!(next(&mut changes).await.starts_with("put a=1 "));

        let first = first.stop().await;
        // A write that is on its way when its member goes may fail: nobody knows whether it was done.
        while put(&*store, "a", b"2").await.is_err() {}
        assert!(next(&mut changes).await.starts_with("put a=2 "));
        assert_eq!(get(&*store, "a", None).await.unwrap().as_deref(), Some("2"));

        let first = first.start().await;
        second.stop().await;
        put(&*kv, "a", b"3").await.unwrap();
        assert_eq!(get(&*store, "a", None).await.unwrap().as_deref(), Some("3"));
        let mut seen = next(&mut changes).await;
        while !seen.starts_with("put a=3 ") {
            seen = next(&mut changes).await;
        }
        drop(first);
    });
}

#[test]
fn without_any_member_calls_fail_with_the_reason_and_watches_wait() {
    run(async {
        let kv: Arc<dyn Kv> = MemoryKv::new();
        let front = Front::start(Arc::clone(&kv)).await;
        let store = open(&front.url).await;
        let mut changes = watch(&*store, KeyRange::key("a"), None).await;
        let stopped = front.stop().await;
        let refused = put(&*store, "a", b"1").await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
        let told = get(&*store, "a", None).await.unwrap_err().to_string();
        assert!(told.contains("no etcd member can be reached"), "{told}");
        put(&*kv, "a", b"2").await.unwrap();
        let _front = stopped.start().await;
        assert!(next(&mut changes).await.starts_with("put a=2 "));
        store.close();
        assert!(changes.messages.recv().await.is_none());
        assert_eq!(put(&*store, "a", b"").await, Err(Error::Closed));
    });
}
