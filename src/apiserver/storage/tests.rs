//! Rules of the object store, on the in-memory store.

use std::sync::Arc;

use apimachinery::{FieldSelector, LabelSelector, ObjectKey};
use env::SystemClock;
use kv::{Kv as _, MemoryKv};
use registry::RESOURCES;
use serde_json::json;

use crate::{
    Alongside, Collection, ContinueToken, FieldIndex, ListOptions, Matching, ObjectStore,
    RevisionMatch, StorageError, WatchEvent, WatchOptions, WatchStart,
};

fn collection(plural: &str) -> Collection {
    let resource = RESOURCES
        .iter()
        .find(|resource| resource.description().plural == plural)
        .expect("a kind");
    Collection::of(&resource.description())
}

fn store() -> ObjectStore {
    ObjectStore::new(MemoryKv::new(), SystemClock::shared())
}

fn pod(name: &str, label: &str, node: &str) -> Arc<[u8]> {
    let object = json!({"kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": node},
        "metadata": {"name": name, "namespace": "d", "labels": {"app": label}}});
    codec::encode_stored(&object).into()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("d", name)
}

#[tokio::test]
async fn a_write_needs_the_version_it_was_made_from() {
    let (store, pods) = (store(), collection("pods"));
    let first = store
        .create(&pods, &key("a"), pod("a", "x", ""), Alongside::default())
        .await
        .expect("created");
    let again = store
        .create(&pods, &key("a"), pod("a", "x", ""), Alongside::default())
        .await;
    assert!(matches!(again, Err(StorageError::AlreadyExists { .. })));
    let second = store
        .replace(
            &pods,
            &key("a"),
            pod("a", "y", ""),
            first.revision,
            Alongside::default(),
        )
        .await
        .expect("replaced");
    let stale = store
        .replace(
            &pods,
            &key("a"),
            pod("a", "z", ""),
            first.revision,
            Alongside::default(),
        )
        .await;
    assert!(matches!(stale, Err(StorageError::Modified { .. })));
    let gone = store
        .delete(&pods, &key("a"), second.revision, Alongside::default())
        .await
        .expect("deleted");
    assert!(gone.revision > second.revision);
    assert!(matches!(
        store.get(&pods, &key("a")).await,
        Err(StorageError::NotFound { .. })
    ));
}

#[tokio::test]
async fn pages_show_the_revision_of_the_first_one() {
    let (store, pods) = (store(), collection("pods"));
    for name in ["a", "b", "c"] {
        store
            .create(&pods, &key(name), pod(name, "x", ""), Alongside::default())
            .await
            .expect("created");
    }
    let mut options = ListOptions {
        limit: 2,
        ..ListOptions::default()
    };
    let first = store.list(&pods, &options).await.expect("a page");
    assert_eq!((first.items.len(), first.remaining), (2, Some(1)));
    store
        .create(&pods, &key("d"), pod("d", "x", ""), Alongside::default())
        .await
        .expect("created");
    options.continue_token = first.continue_token;
    let second = store.list(&pods, &options).await.expect("a page");
    assert_eq!((second.items.len(), second.revision), (1, first.revision));
    assert_eq!(second.continue_token, None);
}

#[tokio::test]
async fn an_expired_page_gets_a_token_that_works() {
    let (store, pods) = (store(), collection("pods"));
    for name in ["a", "b", "c"] {
        store
            .create(&pods, &key(name), pod(name, "x", ""), Alongside::default())
            .await
            .expect("created");
    }
    let mut options = ListOptions {
        limit: 1,
        ..ListOptions::default()
    };
    options.continue_token = store
        .list(&pods, &options)
        .await
        .expect("a page")
        .continue_token;
    store
        .create(&pods, &key("d"), pod("d", "x", ""), Alongside::default())
        .await
        .expect("created");
    store
        .kv()
        .compact(store.current_revision())
        .await
        .expect("compacted");
    let Err(StorageError::Answer(error)) = store.list(&pods, &options).await else {
        panic!("it should be expired")
    };
    assert_eq!(error.code, 410);
    let token = error.continue_token.expect("a token");
    options.continue_token = Some(ContinueToken::decode(&token).expect("a good token"));
    options.limit = 0;
    assert_eq!(
        store
            .list(&pods, &options)
            .await
            .expect("the rest")
            .items
            .len(),
        3
    );
}

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let (store, pods) = (store(), collection("pods"));
    store
        .create(&pods, &key("a"), pod("a", "x", "n1"), Alongside::default())
        .await
        .expect("created");
    store
        .create(&pods, &key("b"), pod("b", "y", "n1"), Alongside::default())
        .await
        .expect("created");
    let matching = Matching {
        labels: LabelSelector::parse("app=y").expect("a selector"),
        fields: FieldSelector::parse("spec.nodeName=n1,spec.hostNetwork=false")
            .expect("a selector"),
    };
    let list = store
        .list(
            &pods,
            &ListOptions {
                matching,
                ..ListOptions::default()
            },
        )
        .await
        .expect("a list");
    let names: Vec<&str> = list
        .items
        .iter()
        .map(|item| item.key().name.as_str())
        .collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test]
async fn a_future_revision_is_told_to_come_back() {
    let options = ListOptions {
        revision: Some((1000, RevisionMatch::NotOlderThan)),
        ..ListOptions::default()
    };
    let Err(StorageError::Answer(error)) = store().list(&collection("pods"), &options).await else {
        panic!("too large")
    };
    assert_eq!(
        (error.code, error.message.as_str()),
        (504, "Timeout: Too large resource version: 1000, current: 1")
    );
}

#[tokio::test]
async fn a_watch_turns_changes_of_labels_into_added_and_deleted() {
    let (store, pods) = (store(), collection("pods"));
    let created = store
        .create(&pods, &key("a"), pod("a", "x", ""), Alongside::default())
        .await
        .expect("created");
    let matching = Matching {
        labels: LabelSelector::parse("app=y").expect("a selector"),
        ..Matching::default()
    };
    let options = WatchOptions {
        namespace: None,
        matching,
        start: WatchStart::StateThenBookmark,
        bookmarks: true,
    };
    let mut watch = store.watch(&pods, options).await.expect("a watch");
    assert!(matches!(
        watch.next().await,
        Some(WatchEvent::Bookmark {
            initial_events_end: true,
            ..
        })
    ));
    let second = store
        .replace(
            &pods,
            &key("a"),
            pod("a", "y", ""),
            created.revision,
            Alongside::default(),
        )
        .await
        .expect("replaced");
    let third = store
        .replace(
            &pods,
            &key("a"),
            pod("a", "z", ""),
            second.revision,
            Alongside::default(),
        )
        .await
        .expect("replaced");
    assert!(
        matches!(watch.next().await, Some(WatchEvent::Added(object)) if object.revision == second.revision)
    );
    let Some(WatchEvent::Deleted(object)) = watch.next().await else {
        panic!("it left the selector")
    };
    assert_eq!(
        (object.revision, object.index.label("app")),
        (third.revision, Some("y"))
    );
}

#[tokio::test]
async fn a_watch_from_a_compacted_revision_is_expired() {
    let (store, pods) = (store(), collection("pods"));
    store
        .create(&pods, &key("a"), pod("a", "x", ""), Alongside::default())
        .await
        .expect("created");
    store
        .create(&pods, &key("b"), pod("b", "x", ""), Alongside::default())
        .await
        .expect("created");
    store
        .kv()
        .compact(store.current_revision())
        .await
        .expect("compacted");
    let options = WatchOptions {
        namespace: None,
        matching: Matching::default(),
        start: WatchStart::After(1),
        bookmarks: false,
    };
    let answer = match store.watch(&pods, options).await {
        Err(error) => apimachinery::ApiError::from(error),
        Ok(mut watch) => match watch.next().await {
            Some(WatchEvent::Error(error)) => error,
            other => panic!("{other:?}"),
        },
    };
    assert_eq!(answer.code, 410);
}

#[tokio::test]
async fn an_index_knows_at_once_what_was_written_before_it_was_asked() {
    let kv = MemoryKv::new();
    let store = ObjectStore::new(kv.clone(), SystemClock::shared());
    let pods = collection("pods");
    let index = FieldIndex::new(pods.clone(), "spec.nodeName");
    let on = async |node: &str| -> Vec<String> {
        let found = store.with_field(&index, node).await.expect("an answer");
        found.iter().map(|pod| pod.key().name.clone()).collect()
    };
    let none = Alongside::default;
    let add = async |name: &str, node: &str| {
        let made = pod(name, "x", node);
        let added = store.create(&pods, &key(name), made, none()).await;
        added.expect("created").revision
    };
    add("a", "n").await;
    assert_eq!(on("n").await, ["a"]);
    let waiting = add("b", "").await;
    assert_eq!(on("n").await, ["a"]);
    let (b, placed) = (key("b"), pod("b", "x", "n"));
    let bound = store.replace(&pods, &b, placed, waiting, none()).await;
    assert_eq!(on("n").await, ["a", "b"]);
    assert!(on("m").await.is_empty());
    let bound = bound.expect("replaced").revision;
    let gone = store.delete(&pods, &b, bound, none()).await;
    assert!(gone.is_ok());
    assert_eq!(on("n").await, ["a"]);
    // More than a watch holds, and then a compaction: what was missed is read again.
    for number in 0..1000 {
        add(&format!("c{number}"), "m").await;
    }
    let newest = store.current_revision();
    kv.compact(newest).await.expect("compacted");
    assert_eq!(on("m").await.len(), 1000);
    assert_eq!(on("n").await, ["a"]);
}
