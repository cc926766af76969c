//! The folder against an API in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, ObjectKey};
use env::{Shutdown, ShutdownTrigger, SystemClock};
use kube_client::fake::{FakeApi, FakeResource};

use crate::{AddOns, run};

const LIMIT: Duration = Duration::from_secs(20);

struct Cluster {
    api: Arc<FakeApi>,
    folder: tempfile::TempDir,
    /// Drop it, and the follower ends.
    running: Option<ShutdownTrigger>,
}

impl Cluster {
    fn new() -> Self {
        Self {
            api: FakeApi::new(SystemClock::shared()),
            folder: tempfile::tempdir().expect("a folder"),
            running: None,
        }
    }

    fn start(&mut self) {
        let (trigger, shutdown) = Shutdown::new();
        let parts = AddOns {
            owner: None,
            folder: self.folder.path().to_owned(),
            client: self.api.client(),
            clock: SystemClock::shared(),
            shutdown,
        };
        env::spawn(async move { run(parts).await.expect("the folder is watched") });
        self.running = Some(trigger);
    }

    fn stop(&mut self) {
        if let Some(trigger) = self.running.take() {
            trigger.trigger();
        }
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    fn data(&self, name: &str) -> Option<String> {
        let resource = GroupVersionResource::new("", "v1", "configmaps");
        let object = self
            .api
            .object(&resource, &ObjectKey::namespaced("default", name))?;
        let text = object.0.get("data")?.get("k")?.as_str()?;
        Some(text.to_owned())
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let all = async {
            while !holds(self) {
                env::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = env::timeout(LIMIT, all).await;
        in_time.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"));
    }

    fn events(&self, reason: &str) -> Vec<String> {
        let resource = GroupVersionResource::new("", "v1", "events");
        let events = self.api.objects(&resource);
        let of_reason = events
            .iter()
            .filter(|event| event.0.get("reason").and_then(|text| text.as_str()) == Some(reason));
        let messages = of_reason.filter_map(|event| event.0.get("message")?.as_str());
        messages.map(str::to_owned).collect()
    }
}

fn config_map(name: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: {value}}}\n"
    )
}

#[tokio::test]
async fn files_are_applied_at_start_and_on_change_and_pruned() {
    let mut cluster = Cluster::new();
    cluster.write(
        "a.yaml",
        &(config_map("a", "one") + &config_map("b", "one")),
    );
    cluster.start();
    cluster
        .until("applied", |cluster| {
            cluster.data("a").as_deref() == Some("one")
        })
        .await;
    cluster.write("deep/er/b.yaml", &config_map("c", "one"));
    cluster
        .until("below", |cluster| cluster.data("c").is_some())
        .await;
    cluster.write("a.yaml", &config_map("a", "two"));
    cluster
        .until("changed and pruned", |cluster| {
            cluster.data("a").as_deref() == Some("two") && cluster.data("b").is_none()
        })
        .await;
    std::fs::remove_file(cluster.path("deep/er/b.yaml")).expect("removed");
    cluster
        .until("gone", |cluster| cluster.data("c").is_none())
        .await;
    assert!(cluster.data("a").is_some());
}

#[tokio::test]
async fn what_changed_while_nobody_ran_is_found_at_start() {
    let mut cluster = Cluster::new();
    cluster.write("a.yaml", &config_map("a", "one"));
    cluster.write(
        "b.yaml",
        &(config_map("b", "one") + &config_map("c", "one")),
    );
    cluster.start();
    cluster
        .until("all", |cluster| {
            cluster.data("a").is_some() && cluster.data("c").is_some()
        })
        .await;
    cluster
        .until("told", |cluster| cluster.events("Applied").len() == 2)
        .await;
    cluster.stop();
    std::fs::remove_file(cluster.path("a.yaml")).expect("removed");
    cluster.write("b.yaml", &config_map("c", "two"));
    cluster.start();
    cluster
        .until("pruned", |cluster| {
            cluster.data("a").is_none()
                && cluster.data("b").is_none()
                && cluster.data("c").as_deref() == Some("two")
        })
        .await;
}

#[tokio::test]
async fn a_bad_file_loses_nothing_and_is_told_with_its_line() {
    let mut cluster = Cluster::new();
    cluster.write("a.yaml", &config_map("a", "one"));
    cluster.start();
    cluster
        .until("applied", |cluster| cluster.data("a").is_some())
        .await;
    cluster.write("a.yaml", &(config_map("new", "two") + "---\nkind: [\n"));
    cluster
        .until("told", |cluster| !cluster.events("Failed").is_empty())
        .await;
    let told = cluster.events("Failed");
    assert!(
        told[0].starts_with("a.yaml: ") && told[0].contains("line "),
        "{told:?}"
    );
    assert_eq!(cluster.data("a").as_deref(), Some("one"));
    assert_eq!(cluster.data("new"), None);
}

#[tokio::test]
async fn an_object_of_a_kind_that_comes_later_is_tried_again() {
    let mut cluster = Cluster::new();
    let widget = "---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n";
    cluster.write("a.yaml", &(config_map("a", "one") + widget));
    cluster.start();
    cluster
        .until("told", |cluster| !cluster.events("Failed").is_empty())
        .await;
    let told = cluster.events("Failed");
    assert!(
        told[0].contains("line 7: Widget w: the API serves no Widget"),
        "{told:?}"
    );
    assert!(cluster.data("a").is_some());
    let row = FakeResource::new("example.com", "v1", "widgets", "Widget", true);
    let resource = row.resource.clone();
    cluster.api.serve(row);
    cluster
        .until("served", |cluster| {
            !cluster.api.objects(&resource).is_empty()
        })
        .await;
}

#[tokio::test]
async fn kept_objects_skipped_files_and_foreign_objects_stay() {
    let mut cluster = Cluster::new();
    let kept = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kept\n  annotations: {combo.io/keep: \"true\"}\n\
                data: {k: one}\n";
    cluster.write("a.yaml", &(config_map("a", "one") + kept));
    cluster.write("b.yaml", &config_map("b", "one"));
    cluster.start();
    cluster
        .until("told", |cluster| cluster.events("Applied").len() == 2)
        .await;
    cluster.write("b.yaml.skip", "");
    std::fs::remove_file(cluster.path("b.yaml")).expect("removed");
    std::fs::remove_file(cluster.path("a.yaml")).expect("removed");
    cluster
        .until("pruned", |cluster| cluster.data("a").is_none())
        .await;
    cluster
        .until("told", |cluster| !cluster.events("Removed").is_empty())
        .await;
    assert!(cluster.data("kept").is_some());
    assert!(cluster.data("b").is_some());
}

#[tokio::test]
async fn a_second_start_writes_nothing_that_is_there() {
    let mut cluster = Cluster::new();
    cluster.write("a.yaml", &config_map("a", "one"));
    cluster.start();
    cluster
        .until("told", |cluster| cluster.events("Applied").len() == 1)
        .await;
    cluster.stop();
    let records = |cluster: &Cluster| {
        let writes = cluster.api.writes();
        let to_records = writes.iter().filter(|write| write.path.contains("/addon-"));
        to_records.count()
    };
    let before = records(&cluster);
    cluster.start();
    cluster.write("b.yaml", &config_map("b", "one"));
    cluster
        .until("the next", |cluster| cluster.events("Applied").len() == 2)
        .await;
    assert_eq!(
        records(&cluster),
        before + 2,
        "the record of b.yaml alone, twice"
    );
}
