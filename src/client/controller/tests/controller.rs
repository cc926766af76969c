//! The runner turns keys on changes, waits for its own writes, and tries failures again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apimachinery::{ApiError, Object, ObjectKey};
use controller::{Action, Controller, Manager, Past, Plan, Verb, Wakes};
use env::{SeededRng, Shutdown, ShutdownTrigger, SystemClock, Timestamp};
use informer::Cache;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube_client::fake::FakeApi;
use kube_client::{Method, resource_of};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(10);

/// Gives each namespace one pod, whose name the API makes up: a turn that missed its own write would make a second.
struct OnePodEach {
    namespaces: Arc<Cache>,
    pods: Arc<Cache>,
    turns: Arc<AtomicUsize>,
}

struct View {
    namespace: String,
    pods: usize,
    has_failed: bool,
}

impl Controller for OnePodEach {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "one-pod-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.namespaces);
        on.mapped(&self.pods, |change| {
            vec![ObjectKey::cluster(change.key().namespace.clone())]
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, ()>) -> Option<View> {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.namespaces.get(key)?;
        Some(View {
            namespace: key.name.clone(),
            pods: self.pods.list_namespace(&key.name).len(),
            has_failed: past.outcomes.failed(Verb::Create, "pods").is_some(),
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        assert!(view.namespace != "panics", "a turn that panics");
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(view.namespace.clone());
        pod.metadata.generate_name = Some("pod-".into());
        let mut note = ConfigMap::default();
        note.metadata.namespace = Some(view.namespace.clone());
        note.metadata.name = Some("failed".into());
        let create = Action::create(&pod);
        match (view.pods, view.has_failed) {
            (0, false) => Plan::of(vec![create]),
            (0, true) => Plan::of(vec![Action::create(&note), create]),
            _ => Plan::nothing(),
        }
    }
}

fn start(api: &Arc<FakeApi>) -> (ShutdownTrigger, Arc<AtomicUsize>) {
    let (trigger, shutdown) = Shutdown::new();
    let client = api.client();
    let manager = Manager::new(
        move |_user| client.clone(),
        SystemClock::shared(),
        SeededRng::shared(1),
        shutdown,
    );
    let turns = Arc::new(AtomicUsize::new(0));
    manager.start(OnePodEach {
        namespaces: manager.factory().all::<Namespace>(),
        pods: manager.factory().all::<Pod>(),
        turns: Arc::clone(&turns),
    });
    (trigger, turns)
}

async fn create_namespace(api: &Arc<FakeApi>, name: &str) {
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
    let namespaces = api.client().dynamic(resource_of::<Namespace>(), "");
    namespaces
        .create(&Object::from_value(object).expect("an object"))
        .await
        .expect("created");
}

fn pods(api: &FakeApi) -> usize {
    api.objects(&resource_of::<Pod>()).len()
}

#[tokio::test]
async fn every_key_is_turned_and_no_write_is_made_twice() {
    let api = FakeApi::new(SystemClock::shared());
    let (_trigger, _turns) = start(&api);
    for number in 0..20 {
        create_namespace(&api, &format!("n{number}")).await;
    }
    env::timeout(DEADLINE, api.until(|api| pods(api) == 20))
        .await
        .expect("all pods");
    // Touching the namespaces wakes every key once more.
    for number in 0..20 {
        let patch = kube_client::Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let namespaces = api.client().dynamic(resource_of::<Namespace>(), "");
        namespaces
            .patch(&format!("n{number}"), &patch)
            .await
            .expect("patched");
    }
    create_namespace(&api, "last").await;
    env::timeout(DEADLINE, api.until(|api| pods(api) >= 21))
        .await
        .expect("the last pod");
    assert_eq!(pods(&api), 21);
}

#[tokio::test]
async fn a_failure_is_told_to_the_next_turn_which_tries_again() {
    let api = FakeApi::new(SystemClock::shared());
    let left = AtomicUsize::new(3);
    api.refuse(Box::new(move |request| {
        let is_pod = request.method == Method::Post && request.path.contains("/pods");
        let refuses = is_pod
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        refuses.then(|| ApiError::service_unavailable("not now"))
    }));
    let (_trigger, _turns) = start(&api);
    create_namespace(&api, "a").await;
    env::timeout(DEADLINE, api.until(|api| pods(api) == 1))
        .await
        .expect("in the end");
    assert!(
        api.object(
            &resource_of::<ConfigMap>(),
            &ObjectKey::namespaced("a", "failed")
        )
        .is_some()
    );
}

#[tokio::test]
async fn a_turn_that_panics_harms_no_other() {
    let api = FakeApi::new(SystemClock::shared());
    let (_trigger, _turns) = start(&api);
    create_namespace(&api, "panics").await;
    create_namespace(&api, "works").await;
    env::timeout(DEADLINE, api.until(|api| pods(api) == 1))
        .await
        .expect("the other pod");
}
