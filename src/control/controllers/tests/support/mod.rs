//! A cluster without nodes' software: the fake API, the controllers under test, and a task that plays the kubelet.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, Object, ObjectKey};
use controller::Manager;
use controllers::{CONTROLLERS, Options};
use env::{SeededRng, Shutdown, ShutdownTrigger, SystemClock};
use informer::Factory;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube_client::fake::FakeApi;
use kube_client::{Client, DeleteOptions, Patch, resource_of};
use serde_json::{Value, json};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) api: Arc<FakeApi>,
    pub(crate) client: Client,
    _end: ShutdownTrigger,
}

impl Cluster {
    /// With the controllers of these names.
    pub(crate) fn start(names: &[&str]) -> Self {
        let options = Options {
            root_certificate_authority: "pem".into(),
            ..Options::default()
        };
        Self::start_with(names, &options)
    }

    pub(crate) fn start_with(names: &[&str], options: &Options) -> Self {
        let api = FakeApi::new(SystemClock::shared());
        let (end, shutdown) = Shutdown::new();
        let client = api.client();
        let for_user = client.clone();
        let manager = Manager::new(
            move |_user| for_user.clone(),
            SystemClock::shared(),
            SeededRng::shared(7),
            shutdown,
        );
        for entry in CONTROLLERS
            .iter()
            .filter(|entry| names.contains(&entry.name))
        {
            (entry.start)(&manager, options);
        }
        Self {
            api,
            client,
            _end: end,
        }
    }

    /// Plays the kubelet: pods run and are ready as soon as they exist, and go as soon as they are told to. Pods labelled
    /// `stuck` stay pending.
    pub(crate) fn run_pods(&self) {
        let factory = Factory::new(self.client.clone(), SeededRng::shared(8));
        let client = self.client.clone();
        env::spawn(async move {
            let pods = factory.all::<Pod>();
            let changes = pods.subscribe();
            loop {
                let Some(pod) = changes.next().await.new else {
                    continue;
                };
                let api = client.dynamic(resource_of::<Pod>(), &pod.key().namespace);
                let tree = pod.to_object().expect("a pod");
                if pod.index.is_being_deleted {
                    let now = DeleteOptions {
                        grace_period_seconds: Some(0),
                        ..DeleteOptions::default()
                    };
                    let _gone_already = api.delete(&pod.key().name, &now).await;
                } else if tree.text_at(&["status", "phase"]).is_empty()
                    && pod.index.label("stuck").is_none()
                {
                    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
                    let status = json!({"status": {"phase": "Running", "conditions": [ready], "podIP": "10.0.0.1"}});
                    let _gone_already = api
                        .patch_status(&pod.key().name, &Patch::Merge(status))
                        .await;
                }
            }
        });
    }

    pub(crate) async fn create<K: Resource>(&self, namespace: &str, object: Value) -> Object {
        let mut object = Object::from_value(object).expect("an object");
        object.0.insert("apiVersion".into(), K::API_VERSION.into());
        object.0.insert("kind".into(), K::KIND.into());
        self.client
            .dynamic(resource_of::<K>(), namespace)
            .create(&object)
            .await
            .expect("created")
    }

    pub(crate) async fn create_namespace(&self, name: &str) -> Object {
        self.create::<Namespace>("", json!({"metadata": {"name": name}}))
            .await
    }

    pub(crate) async fn merge<K: Resource>(
        &self,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Object {
        let api = self.client.dynamic(resource_of::<K>(), namespace);
        api.patch(name, &Patch::Merge(patch))
            .await
            .expect("patched")
    }

    pub(crate) async fn merge_status<K: Resource>(
        &self,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Object {
        let api = self.client.dynamic(resource_of::<K>(), namespace);
        api.patch_status(name, &Patch::Merge(patch))
            .await
            .expect("patched")
    }

    pub(crate) async fn delete<K: Resource>(
        &self,
        namespace: &str,
        name: &str,
        options: DeleteOptions,
    ) {
        self.client
            .dynamic(resource_of::<K>(), namespace)
            .delete(name, &options)
            .await
            .expect("deleted");
    }

    pub(crate) fn get<K: Resource>(&self, namespace: &str, name: &str) -> Option<Object> {
        self.api
            .object(&resource_of::<K>(), &ObjectKey::namespaced(namespace, name))
    }

    pub(crate) fn all<K: Resource>(&self) -> Vec<Object> {
        self.all_of(&resource_of::<K>())
    }

    pub(crate) fn all_of(&self, resource: &GroupVersionResource) -> Vec<Object> {
        self.api.objects(resource)
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let reached = env::timeout(DEADLINE, self.api.until(|_| holds(self))).await;
        assert!(reached.is_ok(), "never happened: {what}");
    }
}

pub(crate) fn number(object: &Object, path: &[&str]) -> i64 {
    object.at(path).and_then(Value::as_i64).unwrap_or(0)
}

pub(crate) fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    let conditions = object.at(&["status", "conditions"])?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}
