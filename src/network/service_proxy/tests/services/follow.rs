//! The proxy that follows the API.

use crate::machine::{Machine, Outcome, VIP, object, on_a_machine, slice_object};
use apimachinery::Object;
use async_trait::async_trait;
use env::{SeededRng, Shutdown, ShutdownTrigger, SystemClock};
use informer::Factory;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::fake::FakeApi;
use kube_client::{
    Client, ClientError, DeleteOptions, ListRequest, ObjectList, Request, Response, Transport,
    WatchRequest, WatchStream, resource_of,
};
use linux::netlink::nf_tables::Ownership;
use serde_json::{Value, json};
use service_proxy::ServiceProxy;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy that runs, and the API it follows.
struct Followed {
    api: Arc<FakeApi>,
    runtime: tokio::runtime::Runtime,
    _trigger: ShutdownTrigger,
}

impl Followed {
    fn start(machine: &Machine, ownership: Ownership) -> Self {
        let api = FakeApi::new(SystemClock::shared());
        let (runtime, trigger) = run_proxy(machine, ownership, api.client());
        Self {
            api,
            runtime,
            _trigger: trigger,
        }
    }

    fn create<K: k8s_openapi::Resource>(&self, kind: &str, api_version: &str, mut object: Value) {
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(api_version);
        let resource = self.api.client().dynamic(resource_of::<K>(), "default");
        let object = Object::from_value(object).unwrap();
        self.runtime.block_on(resource.create(&object)).unwrap();
    }

    fn delete<K: k8s_openapi::Resource>(&self, name: &str) {
        let resource = self.api.client().dynamic(resource_of::<K>(), "default");
        self.runtime
            .block_on(resource.delete(
                name,
                &DeleteOptions {
                    grace_period_seconds: Some(0),
                    ..DeleteOptions::default()
                },
            ))
            .unwrap();
    }
}

fn run_proxy(
    machine: &Machine,
    ownership: Ownership,
    client: Client,
) -> (tokio::runtime::Runtime, ShutdownTrigger) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let factory = Factory::new(client, SeededRng::shared(1));
    let (trigger, shutdown) = Shutdown::new();
    let proxy = ServiceProxy::open_with("one", ownership).unwrap();
    let node = machine.node.clone();
    runtime.spawn(async move {
        service_proxy::run(proxy, node, &factory, SystemClock::shared(), shutdown).await;
    });
    (runtime, trigger)
}

/// As after a boot without a server in sight: nothing is ever answered.
#[derive(Debug)]
struct Silence;

#[async_trait]
impl Transport for Silence {
    async fn call(&self, _request: Request) -> Result<Response, ClientError> {
        std::future::pending().await
    }

    async fn list(&self, _request: ListRequest) -> Result<ObjectList, ClientError> {
        std::future::pending().await
    }

    async fn watch(&self, _request: WatchRequest) -> Result<WatchStream, ClientError> {
        std::future::pending().await
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited for: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn the_kernel_follows_services_slices_and_pods() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        let followed = Followed::start(machine, Ownership::Exclusive);
        followed.create::<Service>("Service", "v1", object(&json!({})));
        until("the Service refuses", || {
            machine.from_pod(1, VIP, 80) == Outcome::Refused
        });
        let endpoints = slice_object("web", &[("http", "TCP", 8080)], &[machine.pod_ip(0)], &[]);
        followed.create::<EndpointSlice>("EndpointSlice", "discovery.k8s.io/v1", endpoints);
        until("the Service answers", || {
            machine.from_pod(1, VIP, 80).server() == Some("pod0")
        });
        followed.delete::<EndpointSlice>("web");
        until("the Service refuses again", || {
            machine.from_pod(1, VIP, 80) == Outcome::Refused
        });

        let outer = machine.outer_ip();
        followed.create::<Pod>(
            "Pod",
            "v1",
            json!({
                "metadata": {"name": "holder", "namespace": "default"},
                "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i", "ports": [
                    {"containerPort": 8080, "hostPort": 54321}]}]},
                "status": {"phase": "Running", "podIPs": [{"ip": machine.pod_ip(0)}]},
            }),
        );
        until("the host port answers", || {
            machine.from_outside(&outer, 54321).server() == Some("pod0")
        });
        followed.delete::<Pod>("holder");
        until("the host port is gone", || {
            machine.from_outside(&outer, 54321) == Outcome::Refused
        });
    });
}

#[test]
fn pods_reach_the_world_before_the_api_is_there_and_a_restart_changes_no_service() {
    on_a_machine(|machine| {
        machine.serve_outside(8080);
        let node = machine.outer_ip();
        let from_node = Outcome::answered("outside", &node);
        let first = run_proxy(
            machine,
            Ownership::Exclusive,
            Client::new(Arc::new(Silence)),
        );
        until("the table is there", || {
            machine.from_pod(0, "192.0.2.9", 8080) == from_node
        });
        drop(first);

        machine.serve(0, 8080);
        machine.put_service("web", &json!({}));
        machine.put_slice("web", 8080, &[0]);
        machine.apply();
        machine.proxy = ServiceProxy::open("unused").unwrap();
        let handle = machine.nft(&["-a", "list", "table", "inet", "combo-one"]);
        let _second = run_proxy(
            machine,
            Ownership::Exclusive,
            Client::new(Arc::new(Silence)),
        );
        assert_eq!(machine.from_pod(1, VIP, 80).server(), Some("pod0"));
        assert_eq!(
            machine.nft(&["-a", "list", "table", "inet", "combo-one"]),
            handle
        );
    });
}

#[test]
fn a_shared_table_is_made_anew_as_soon_as_somebody_flushes_it() {
    on_a_machine(|machine| {
        machine.serve(0, 8080);
        let followed = Followed::start(machine, Ownership::Shared);
        followed.create::<Service>("Service", "v1", object(&json!({})));
        let endpoints = slice_object("web", &[("http", "TCP", 8080)], &[machine.pod_ip(0)], &[]);
        followed.create::<EndpointSlice>("EndpointSlice", "discovery.k8s.io/v1", endpoints);
        for _ in 0..3 {
            until("the Service answers", || {
                machine.from_pod(1, VIP, 80).server() == Some("pod0")
            });
            machine.nft(&["flush", "ruleset"]);
        }
        until("the Service answers", || {
            machine.from_pod(1, VIP, 80).server() == Some("pod0")
        });
        machine.nft(&[
            "delete",
            "element",
            "inet",
            "combo-one",
            "services4",
            "{ 10.43.0.10 . tcp . 80 }",
        ]);
        until("the Service answers", || {
            machine.from_pod(1, VIP, 80).server() == Some("pod0")
        });
    });
}
