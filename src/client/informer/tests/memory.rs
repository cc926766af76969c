//! A cache begins with what it knew when no server answers, and with the server's word when one does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{Object, ObjectKey};
use env::{SeededRng, SystemClock, SystemRng};
use informer::{Cache, Factory, Keep, Kept, Memory, Selections, always, everything};
use k8s_openapi::api::core::v1::ConfigMap;
use kube_client::fake::{FakeApi, FakeLine, LineState};
use kube_client::{DeleteOptions, DynamicApi, ListRequest, Patch, resource_of};
use sealed_files::{Records, SealedFolder};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(600);

struct World {
    place: tempfile::TempDir,
    api: Arc<FakeApi>,
}

/// One life of a process.
struct Life {
    line: FakeLine,
    factory: Factory,
    records: Records,
}

fn one(name: &str) -> ListRequest {
    ListRequest {
        namespace: Some("a".to_owned()),
        field_selector: format!("metadata.name={name}"),
        ..everything(resource_of::<ConfigMap>())
    }
}

fn plan() -> Vec<Kept> {
    let kept = |selections, how| Kept {
        resource: resource_of::<ConfigMap>(),
        selections,
        how,
        is_news: always,
    };
    vec![
        kept(Selections::ByField, Keep::Each),
        kept(Selections::Others, Keep::Together),
    ]
}

fn records(place: &Path, key: &[u8]) -> Records {
    let folder = SealedFolder::open(place, key, SystemRng::shared()).expect("a folder");
    Records::open(folder, Box::new(|| {})).expect("records")
}

impl World {
    fn new() -> Self {
        Self {
            place: tempfile::tempdir().expect("a place"),
            api: FakeApi::new(SystemClock::shared()),
        }
    }

    fn live(&self, line: LineState) -> Life {
        self.live_with(line, b"key", plan())
    }

    fn live_with(&self, line: LineState, key: &[u8], plan: Vec<Kept>) -> Life {
        let line = FakeLine::new(Arc::clone(&self.api) as _, line);
        let records = records(self.place.path(), key);
        let memory = Memory::new(records.clone(), plan);
        Life {
            factory: Factory::with_memory(line.client(), SeededRng::shared(1), memory),
            line,
            records,
        }
    }

    fn maps(&self) -> DynamicApi {
        self.api.client().dynamic(resource_of::<ConfigMap>(), "a")
    }

    async fn create(&self, name: &str) {
        let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});
        let map = Object::from_value(map).expect("an object");
        self.maps().create(&map).await.expect("created");
    }

    /// A life that has seen everything and remembers it.
    async fn learn(&self) {
        let life = self.live(LineState::Up);
        let (all, x) = (
            life.factory.all::<ConfigMap>(),
            life.factory.cache(one("x")),
        );
        within(all.wait_until_told()).await;
        within(x.wait_until_told()).await;
        life.records.flush().await;
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    env::timeout(DEADLINE, future).await.expect("in time")
}

fn names(cache: &Cache) -> Vec<String> {
    let objects = cache.list();
    objects
        .iter()
        .map(|object| object.key().name.clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_a_cache_is_filled_with_what_is_remembered() {
    let world = World::new();
    world.create("x").await;
    world.create("y").await;
    world.learn().await;
    for line in [LineState::Silent, LineState::Refusing] {
        let life = world.live(line);
        let (all, x) = (
            life.factory.all::<ConfigMap>(),
            life.factory.cache(one("x")),
        );
        within(all.wait_for_sync()).await;
        within(x.wait_for_sync()).await;
        assert_eq!(
            (names(&all), names(&x)),
            (vec!["x".into(), "y".into()], vec!["x".into()])
        );
        assert!(!all.is_told() && !x.is_told());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_in_time_has_the_first_word() {
    let world = World::new();
    world.create("x").await;
    world.learn().await;
    world.create("y").await;
    let life = world.live(LineState::Silent);
    let all = life.factory.all::<ConfigMap>();
    env::sleep(Duration::from_secs(2)).await;
    assert!(!all.is_synced());
    life.line.set(LineState::Up);
    within(all.wait_for_sync()).await;
    assert!(all.is_told());
    assert_eq!(names(&all), ["x", "y"]);
}

#[tokio::test(start_paused = true)]
async fn the_servers_word_brings_only_what_differs() {
    let world = World::new();
    for name in ["same", "changes", "goes"] {
        world.create(name).await;
    }
    world.learn().await;
    let patch = Patch::Merge(json!({"data": {"value": "2"}}));
    world
        .maps()
        .patch("changes", &patch)
        .await
        .expect("patched");
    let gone = world.maps().delete("goes", &DeleteOptions::default()).await;
    gone.expect("deleted");
    world.create("comes").await;

    let life = world.live(LineState::Silent);
    let all = life.factory.all::<ConfigMap>();
    let changes = all.subscribe();
    within(all.wait_for_sync()).await;
    let remembered = std::iter::from_fn(|| changes.try_next()).count();
    assert_eq!(remembered, 3);
    life.line.set(LineState::Up);
    within(all.wait_until_told()).await;
    let mut changed: Vec<(String, bool, bool)> = std::iter::from_fn(|| changes.try_next())
        .map(|change| {
            (
                change.key().name.clone(),
                change.old.is_some(),
                change.new.is_some(),
            )
        })
        .collect();
    changed.sort();
    let told = |name: &str, old, new| (name.to_owned(), old, new);
    assert_eq!(
        changed,
        [
            told("changes", true, true),
            told("comes", false, true),
            told("goes", true, false)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_changes_later_is_remembered_too_and_what_is_forgotten_is_not() {
    let world = World::new();
    world.create("x").await;
    {
        let life = world.live(LineState::Up);
        let x = life.factory.cache(one("x"));
        within(x.wait_until_told()).await;
        let patch = Patch::Merge(json!({"data": {"value": "2"}}));
        world.maps().patch("x", &patch).await.expect("patched");
        within(x.wait_for_revision(world.api.revision())).await;
        life.records.flush().await;
    }
    {
        let life = world.live(LineState::Refusing);
        let x = life.factory.cache(one("x"));
        within(x.wait_for_sync()).await;
        let object = x
            .get(&ObjectKey::namespaced("a", "x"))
            .expect("it is remembered");
        assert_eq!(
            object
                .to_object()
                .expect("an object")
                .text_at(&["data", "value"]),
            "2"
        );
        life.factory.forget(&one("x"));
        life.records.flush().await;
    }
    let life = world.live(LineState::Refusing);
    let x = life.factory.cache(one("x"));
    env::sleep(Duration::from_secs(60)).await;
    assert!(!x.is_synced());
}

#[tokio::test(start_paused = true)]
async fn an_empty_selection_is_remembered_and_an_unknown_one_is_not_invented() {
    let world = World::new();
    world.learn().await;
    let life = world.live(LineState::Refusing);
    let (x, y) = (life.factory.cache(one("x")), life.factory.cache(one("y")));
    within(x.wait_for_sync()).await;
    assert!(x.is_empty());
    env::sleep(Duration::from_secs(60)).await;
    assert!(!y.is_synced());
    // Nor is anything known to who has not the key.
    let other = world.live_with(LineState::Refusing, b"other", plan());
    let x = other.factory.cache(one("x"));
    env::sleep(Duration::from_secs(60)).await;
    assert!(!x.is_synced());
}

#[tokio::test(start_paused = true)]
async fn another_selection_stands_in_for_one_that_is_too_large_to_keep() {
    let world = World::new();
    world.create("x").await;
    world.create("y").await;
    let mut plan = plan();
    plan[1].how = Keep::As(one("x"));
    {
        let life = world.live_with(LineState::Up, b"key", plan.clone());
        let (all, x) = (
            life.factory.all::<ConfigMap>(),
            life.factory.cache(one("x")),
        );
        within(all.wait_until_told()).await;
        within(x.wait_until_told()).await;
        life.records.flush().await;
    }
    let life = world.live_with(LineState::Refusing, b"key", plan);
    let all = life.factory.all::<ConfigMap>();
    within(all.wait_for_sync()).await;
    assert_eq!(names(&all), ["x"]);
}
