//! The server that follows the API.

use crate::machine::{Machine, on_a_machine};
use apimachinery::Object;
use env::{SeededRng, Shutdown, SystemClock};
use hickory_proto::op::ResponseCode::{NXDomain, ServFail};
use hickory_proto::rr::RecordType;
use informer::Factory;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::fake::FakeApi;
use kube_client::{DeleteOptions, resource_of};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn names_come_and_go_with_their_objects_and_nothing_is_denied_before_all_are_read() {
    on_a_machine(|machine| {
        let web = "web.default.svc.cluster.local.";
        let records = machine.incomplete_records();
        assert_eq!(machine.ask(web, RecordType::A).code, ServFail);
        let api = FakeApi::new(SystemClock::shared());
        let factory = Factory::new(api.client(), SeededRng::shared(1));
        let (_trigger, shutdown) = Shutdown::new();
        machine.spawn(async move { dns::follow(&records, &factory, shutdown).await });
        until("it is known that there is no such name", || {
            machine.ask(web, RecordType::A).code == NXDomain
        });

        let create = |kind: &str, resource, namespace: &str, mut object: Value| {
            object["kind"] = json!(kind);
            let resource = api.client().dynamic(resource, namespace);
            machine
                .block_on(resource.create(&Object::from_value(object).unwrap()))
                .unwrap();
        };
        create(
            "Namespace",
            resource_of::<Namespace>(),
            "",
            json!({"apiVersion": "v1", "metadata": {"name": "default"}}),
        );
        create(
            "Service",
            resource_of::<Service>(),
            "default",
            json!({"apiVersion": "v1",
            "metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "None"}}),
        );
        create(
            "EndpointSlice",
            resource_of::<EndpointSlice>(),
            "default",
            json!({"apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.9"]}]}),
        );
        until("the name is there", || {
            machine.ask(web, RecordType::A).answers == ["10.42.0.9"]
        });
        delete(
            machine,
            &api.client().dynamic(resource_of::<Service>(), "default"),
            "web",
        );
        until("the name is gone", || {
            machine.ask(web, RecordType::A).code == NXDomain
        });
    });
}

fn delete(machine: &Machine, resource: &kube_client::DynamicApi, name: &str) {
    machine
        .block_on(resource.delete(name, &DeleteOptions::default()))
        .unwrap();
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited for: {what}");
    }
}
