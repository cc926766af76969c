//! A cache follows the API through changes, broken watches and lost history.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{Object, ObjectKey};
use env::{SeededRng, SystemClock};
use informer::{CONTROLLER_UID, Factory, everything};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube_client::fake::FakeApi;
use kube_client::{DeleteOptions, ListRequest, Patch, resource_of};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(10);

fn map(name: &str) -> Object {
    Object::from_value(json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}}))
        .expect("an object")
}

fn start() -> (Arc<FakeApi>, Factory) {
    let api = FakeApi::new(SystemClock::shared());
    let factory = Factory::new(api.client(), SeededRng::shared(1));
    (api, factory)
}

async fn within<F: Future>(future: F) -> F::Output {
    env::timeout(DEADLINE, future).await.expect("in time")
}

#[tokio::test]
async fn a_cache_holds_what_was_there_and_what_comes() {
    let (api, factory) = start();
    let maps = api.client().dynamic(resource_of::<ConfigMap>(), "a");
    maps.create(&map("old")).await.expect("created");
    let cache = factory.all::<ConfigMap>();
    within(cache.wait_for_sync()).await;
    assert_eq!(cache.len(), 1);

    let created = maps.create(&map("new")).await.expect("created");
    within(cache.wait_for_revision(created.resource_version().parse().expect("a number"))).await;
    assert!(cache.get(&ObjectKey::namespaced("a", "new")).is_some());
    assert_eq!(cache.list_namespace("b").len(), 0);

    maps.delete("old", &DeleteOptions::default())
        .await
        .expect("deleted");
    within(cache.wait_for_revision(api.revision())).await;
    assert_eq!(cache.list().len(), 1);
}

#[tokio::test]
async fn one_selection_is_one_cache_until_nobody_holds_it() {
    let (api, factory) = start();
    let first = factory.all::<Pod>();
    assert!(Arc::ptr_eq(&first, &factory.all::<Pod>()));
    let another = factory.calling_as(api.client());
    assert!(Arc::ptr_eq(&first, &another.all::<Pod>()));
    let weak = Arc::downgrade(&first);
    drop(first);
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn changes_not_taken_yet_become_one() {
    let (api, factory) = start();
    let maps = api.client().dynamic(resource_of::<ConfigMap>(), "a");
    let cache = factory.all::<ConfigMap>();
    let changes = cache.subscribe();
    maps.create(&map("x")).await.expect("created");
    for value in ["1", "2", "3"] {
        let patch = Patch::Merge(json!({"data": {"value": value}}));
        maps.patch("x", &patch).await.expect("patched");
    }
    maps.create(&map("gone")).await.expect("created");
    maps.delete("gone", &DeleteOptions::default())
        .await
        .expect("deleted");
    within(cache.wait_for_revision(api.revision())).await;
    let change = within(changes.next()).await;
    assert!(change.old.is_none());
    let last = change
        .new
        .expect("it is there")
        .to_object()
        .expect("an object");
    assert_eq!(last.text_at(&["data", "value"]), "3");
    assert!(changes.try_next().is_none());
}

#[tokio::test]
async fn objects_are_found_by_their_controller() {
    let (api, factory) = start();
    let cache = factory.all::<Pod>();
    cache.add_index(CONTROLLER_UID);
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "ownerReferences":
        [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": true}]}});
    let pods = api.client().dynamic(resource_of::<Pod>(), "a");
    pods.create(&Object::from_value(pod).expect("an object"))
        .await
        .expect("created");
    within(cache.wait_for_revision(api.revision())).await;
    assert_eq!(cache.find(&CONTROLLER_UID, "u").len(), 1);
    pods.patch(
        "p",
        &Patch::Merge(json!({"metadata": {"ownerReferences": null}})),
    )
    .await
    .expect("patched");
    within(cache.wait_for_revision(api.revision())).await;
    assert_eq!(cache.find(&CONTROLLER_UID, "u").len(), 0);
    assert_eq!(cache.find(&CONTROLLER_UID, "").len(), 1);
}

#[tokio::test]
async fn an_object_that_leaves_the_selection_leaves_the_cache() {
    let (api, factory) = start();
    let maps = api.client().dynamic(resource_of::<ConfigMap>(), "a");
    let request = ListRequest {
        label_selector: "x=y".into(),
        ..everything(resource_of::<ConfigMap>())
    };
    let cache = factory.cache(request);
    let mut object = map("m");
    object.set_at(&["metadata", "labels"], json!({"x": "y"}));
    maps.create(&object).await.expect("created");
    within(cache.wait_for_revision(api.revision())).await;
    assert_eq!(cache.len(), 1);
    maps.patch("m", &Patch::Merge(json!({"metadata": {"labels": null}})))
        .await
        .expect("patched");
    within(cache.wait_for_revision(api.revision())).await;
    assert_eq!(cache.len(), 0);
}
