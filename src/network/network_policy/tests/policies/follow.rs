//! The policies that follow the API.

use crate::machine::{Dropped, Machine, Reached, XA, XB, YA, YB, on_a_machine, policy};
use apimachinery::Object;
use env::{SeededRng, Shutdown, ShutdownTrigger, SystemClock};
use informer::Factory;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube_client::fake::FakeApi;
use kube_client::{DeleteOptions, resource_of};
use linux::netlink::nf_tables::Ownership;
use network_policy::{NodePods, PolicyTable};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// Policies that run, and the API they follow.
struct Followed {
    api: Arc<FakeApi>,
    node_pods: NodePods,
    runtime: tokio::runtime::Runtime,
    _trigger: ShutdownTrigger,
}

impl Followed {
    fn start(ownership: Ownership) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let api = FakeApi::new(SystemClock::shared());
        let factory = Factory::new(api.client(), SeededRng::shared(1));
        let (trigger, shutdown) = Shutdown::new();
        let table = PolicyTable::open_with("one", ownership).unwrap();
        let node_pods = NodePods::default();
        let pods = node_pods.clone();
        runtime.spawn(async move {
            network_policy::run(table, pods, &factory, SystemClock::shared(), shutdown).await;
        });
        Self {
            api,
            node_pods,
            runtime,
            _trigger: trigger,
        }
    }

    fn create<K: k8s_openapi::Resource>(&self, object: &Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let resource = self.api.client().dynamic(resource_of::<K>(), namespace);
        let object = Object::from_value(object.clone()).unwrap();
        self.runtime.block_on(resource.create(&object)).unwrap();
    }

    fn delete_policy(&self, name: &str) {
        let resource = self
            .api
            .client()
            .dynamic(resource_of::<NetworkPolicy>(), "x");
        let now = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        self.runtime.block_on(resource.delete(name, &now)).unwrap();
    }

    fn connect(&self, machine: &Machine, pod: usize) {
        let connected = self.node_pods.connected(machine.connected_pod(pod));
        self.runtime.block_on(connected).unwrap();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited for: {what}");
        std::thread::yield_now();
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"ns": name}}})
}

fn from_y_b() -> Value {
    json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [
        {"namespaceSelector": {"matchLabels": {"ns": "y"}}, "podSelector": {"matchLabels": {"pod": "b"}}}]}]})
}

#[test]
fn a_pod_is_isolated_before_it_runs_and_the_kernel_follows_policies_and_pods() {
    on_a_machine(|machine| {
        let followed = Followed::start(Ownership::Exclusive);
        followed.node_pods.adopt([machine.connected_pod(XB)]);
        followed.create::<Namespace>(&namespace("x"));
        followed.create::<Namespace>(&namespace("y"));
        followed.connect(machine, YA);
        assert_eq!(machine.from_pod(YA, machine.ip(XA), 80), Reached);
        followed.create::<NetworkPolicy>(&policy("x", "web", &from_y_b()));
        followed.create::<Pod>(&machine.pod_object(YB));
        // A pod that the API does not show yet is known by what it was connected with.
        until("the policy is read", || {
            followed.connect(machine, XA);
            machine.from_pod(XB, machine.ip(XA), 80) == Dropped
        });
        assert_eq!(machine.from_pod(YA, machine.ip(XA), 80), Dropped);
        until("a pod of the API is a peer", || {
            machine.from_pod(YB, machine.ip(XA), 80) == Reached
        });
        followed.node_pods.disconnected("uid-xa");
        until("a pod that is gone leaves no trace", || {
            machine.from_pod(XB, machine.ip(XA), 80) == Reached
        });
        followed.connect(machine, XA);
        assert_eq!(machine.from_pod(XB, machine.ip(XA), 80), Dropped);
        followed.delete_policy("web");
        until("without policies all is open", || {
            machine.from_pod(XB, machine.ip(XA), 80) == Reached
        });
    });
}

#[test]
fn rules_that_somebody_flushes_are_made_anew() {
    on_a_machine(|machine| {
        machine.share_table();
        let followed = Followed::start(Ownership::Shared);
        followed.create::<Namespace>(&namespace("x"));
        followed.create::<NetworkPolicy>(&policy("x", "web", &from_y_b()));
        followed.node_pods.adopt([machine.connected_pod(XA)]);
        for _ in 0..3 {
            until("the pod is isolated", || {
                machine.from_pod(XB, machine.ip(XA), 80) == Dropped
            });
            machine.nft(&["flush", "ruleset"]);
        }
        until("the pod is isolated", || {
            machine.from_pod(XB, machine.ip(XA), 80) == Dropped
        });
    });
}

#[test]
fn a_pod_waits_for_policies_that_were_not_read() {
    on_a_machine(|machine| {
        let followed = Followed::start(Ownership::Exclusive);
        // Nobody said which pods an earlier process connected.
        let pods = followed.node_pods.clone();
        let pod = machine.connected_pod(XA);
        let waiting = followed
            .runtime
            .spawn(async move { pods.connected(pod).await });
        let early = followed.runtime.block_on(async {
            env::timeout(Duration::from_millis(200), std::future::pending::<()>()).await
        });
        assert!(early.is_err() && !waiting.is_finished());
        followed.node_pods.adopt([]);
        followed.runtime.block_on(waiting).unwrap().unwrap();
    });
}
