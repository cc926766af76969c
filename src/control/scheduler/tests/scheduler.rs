//! The scheduler against an API in memory.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{Object, ObjectKey};
use env::{SeededRng, Shutdown, ShutdownTrigger, SystemClock};
use informer::Factory;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube_client::fake::FakeApi;
use kube_client::{DeleteOptions, Patch, resource_of};
use scheduler::Scheduler;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

struct World {
    api: Arc<FakeApi>,
    _end: ShutdownTrigger,
}

impl World {
    fn start() -> Self {
        let api = FakeApi::new(SystemClock::shared());
        let (end, shutdown) = Shutdown::new();
        let factory = Factory::new(api.client(), SeededRng::shared(3));
        let scheduler = Scheduler::new(
            &api.client(),
            &factory,
            SystemClock::shared(),
            SeededRng::shared(4),
        );
        env::spawn(scheduler.run(shutdown));
        Self { api, _end: end }
    }

    async fn create<K: Resource>(&self, namespace: &str, object: Value) {
        let mut object = Object::from_value(object).expect("an object");
        object.0.insert("apiVersion".into(), K::API_VERSION.into());
        object.0.insert("kind".into(), K::KIND.into());
        self.api
            .client()
            .dynamic(resource_of::<K>(), namespace)
            .create(&object)
            .await
            .expect("created");
    }

    async fn node(&self, name: &str, change: Value) {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
        });
        merge(&mut node, &change);
        self.create::<Node>("", node).await;
    }

    async fn pod(&self, name: &str, spec: Value) {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {"name": name}},
            "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c"}]},
        });
        merge(&mut pod, &json!({"spec": spec}));
        self.create::<Pod>("a", pod).await;
    }

    fn get(&self, name: &str) -> Option<Object> {
        self.api
            .object(&resource_of::<Pod>(), &ObjectKey::namespaced("a", name))
    }

    fn node_of(&self, name: &str) -> String {
        self.get(name)
            .map(|pod| pod.text_at(&["spec", "nodeName"]))
            .unwrap_or_default()
    }

    fn message(&self, name: &str) -> String {
        let pod = self.get(name).unwrap_or_default();
        let conditions = pod
            .at(&["status", "conditions"])
            .cloned()
            .unwrap_or_default();
        let scheduled = conditions
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "PodScheduled");
        scheduled
            .and_then(|one| one["message"].as_str())
            .unwrap_or_default()
            .to_owned()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let reached = env::timeout(DEADLINE, self.api.until(|_| holds(self))).await;
        assert!(reached.is_ok(), "never happened: {what}");
    }
}

fn merge(document: &mut Value, patch: &Value) {
    apimachinery::merge_patch(document, patch);
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
}

#[tokio::test]
async fn pods_spread_over_nodes_and_wait_for_room_with_upstreams_words() {
    let world = World::start();
    world.node("one", json!({})).await;
    world.node("two", json!({})).await;
    for name in ["a", "b"] {
        world.pod(name, cpu("1500m")).await;
    }
    world
        .until("both run", |world| {
            !world.node_of("a").is_empty() && !world.node_of("b").is_empty()
        })
        .await;
    assert_ne!(world.node_of("a"), world.node_of("b"));

    world.pod("c", cpu("1")).await;
    world
        .until("told why", |world| !world.message("c").is_empty())
        .await;
    assert_eq!(
        world.message("c"),
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    let gone = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    world
        .api
        .client()
        .dynamic(resource_of::<Pod>(), "a")
        .delete("a", &gone)
        .await
        .expect("deleted");
    world
        .until("room was made", |world| !world.node_of("c").is_empty())
        .await;
    world
        .until("events tell", |world| {
            let events = world.api.objects(&resource_of::<Event>());
            events.iter().any(|event| {
                event
                    .text_at(&["message"])
                    .starts_with("Successfully assigned a/c to")
            })
        })
        .await;
}

#[tokio::test]
async fn taints_selectors_and_closed_nodes_rule_nodes_out() {
    let world = World::start();
    world
        .node("closed", json!({"spec": {"unschedulable": true}}))
        .await;
    world
        .node(
            "tainted",
            json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
        )
        .await;
    world.node("other", json!({})).await;
    world
        .pod("p", json!({"nodeSelector": {"disk": "ssd"}}))
        .await;
    world
        .until("told why", |world| !world.message("p").is_empty())
        .await;
    assert!(world.message("p").starts_with(
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    ));
    let label = Patch::Merge(json!({"metadata": {"labels": {"disk": "ssd"}}}));
    world
        .api
        .client()
        .dynamic(resource_of::<Node>(), "")
        .patch("other", &label)
        .await
        .expect("patched");
    world
        .until("the label helped", |world| world.node_of("p") == "other")
        .await;
}

#[tokio::test]
async fn an_important_pod_takes_the_place_of_another() {
    let world = World::start();
    world.node("one", json!({})).await;
    let mut low = cpu("2");
    low["priority"] = 1.into();
    world.pod("low", low).await;
    world
        .until("low runs", |world| world.node_of("low") == "one")
        .await;
    let mut high = cpu("1");
    high["priority"] = 100.into();
    world.pod("high", high).await;
    world
        .until("low is told to go", |world| {
            let low = world.get("low").expect("it has grace");
            let conditions = low
                .at(&["status", "conditions"])
                .cloned()
                .unwrap_or_default();
            let told = conditions
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| one["reason"] == "PreemptionByScheduler");
            low.is_being_deleted() && told
        })
        .await;
    world
        .until("high is promised the node", |world| {
            world
                .get("high")
                .expect("a pod")
                .text_at(&["status", "nominatedNodeName"])
                == "one"
        })
        .await;
    let gone = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    world
        .api
        .client()
        .dynamic(resource_of::<Pod>(), "a")
        .delete("low", &gone)
        .await
        .expect("deleted");
    world
        .until("high runs", |world| world.node_of("high") == "one")
        .await;
}

#[tokio::test]
async fn pods_repel_attract_and_share_no_port() {
    let world = World::start();
    for name in ["one", "two"] {
        world.node(name, json!({})).await;
    }
    world.pod("first", json!({})).await;
    world
        .until("first", |world| !world.node_of("first").is_empty())
        .await;
    let term = |name: &str| json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"name": name}}}]);
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term("first")}}});
    let far = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term("first")}}});
    world.pod("near", near).await;
    world.pod("far", far).await;
    world
        .until("both", |world| {
            !world.node_of("near").is_empty() && !world.node_of("far").is_empty()
        })
        .await;
    assert_eq!(world.node_of("near"), world.node_of("first"));
    assert_ne!(world.node_of("far"), world.node_of("first"));

    let port =
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    for name in ["p", "q", "r"] {
        world.pod(name, port.clone()).await;
    }
    world
        .until("one has to wait", |world| {
            ["p", "q", "r"].iter().any(|name| {
                world
                    .message(name)
                    .starts_with("0/2 nodes are available: 2 node(s) didn't have free ports")
            })
        })
        .await;
}

#[tokio::test]
async fn a_spread_constraint_is_kept_and_a_gate_holds() {
    let world = World::start();
    for (name, zone) in [("one", "x"), ("two", "y")] {
        world
            .node(name, json!({"metadata": {"labels": {"zone": zone}}}))
            .await;
    }
    let spread = json!({
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchExpressions": [{"key": "name", "operator": "Exists"}]}}],
    });
    for name in ["a", "b", "c", "d"] {
        world.pod(name, spread.clone()).await;
    }
    world
        .until("all run", |world| {
            ["a", "b", "c", "d"]
                .iter()
                .all(|name| !world.node_of(name).is_empty())
        })
        .await;
    let on_one = ["a", "b", "c", "d"]
        .iter()
        .filter(|name| world.node_of(name) == "one")
        .count();
    assert_eq!(on_one, 2);

    world
        .pod("gated", json!({"schedulingGates": [{"name": "g"}]}))
        .await;
    world.pod("later", json!({})).await;
    world
        .until("a later one runs", |world| {
            !world.node_of("later").is_empty()
        })
        .await;
    assert_eq!(world.node_of("gated"), "");
    let open = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    world
        .api
        .client()
        .dynamic(resource_of::<Pod>(), "a")
        .patch("gated", &open)
        .await
        .expect("patched");
    world
        .until("the gate is open", |world| {
            !world.node_of("gated").is_empty()
        })
        .await;
}

#[tokio::test]
async fn a_claim_that_waits_for_its_pod_is_told_the_node_first() {
    let world = World::start();
    world.node("one", json!({})).await;
    world.create::<StorageClass>("", json!({"metadata": {"name": "local"}, "provisioner": "x/local", "volumeBindingMode": "WaitForFirstConsumer"})).await;
    let claim = json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    world.create::<PersistentVolumeClaim>("a", claim).await;
    world
        .pod(
            "p",
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}),
        )
        .await;
    let key = ObjectKey::namespaced("a", "data");
    world
        .until("the claim is told", |world| {
            let claim = world
                .api
                .object(&resource_of::<PersistentVolumeClaim>(), &key)
                .expect("a claim");
            claim.annotation("volume.kubernetes.io/selected-node") == Some("one")
        })
        .await;
    assert_eq!(world.node_of("p"), "");
    let bound = Patch::Merge(
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv"}}),
    );
    world
        .api
        .client()
        .dynamic(resource_of::<PersistentVolumeClaim>(), "a")
        .patch("data", &bound)
        .await
        .expect("patched");
    world
        .until("the pod runs", |world| world.node_of("p") == "one")
        .await;
}
