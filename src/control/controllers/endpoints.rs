//! Publishes the pods a service selects as Endpoints, the older form that some clients still read.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{Object, ObjectKey};
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service, ServicePort};
use kube_client::resource_of;
use serde_json::{Value, json};

use crate::endpoint_slice::HEADLESS;
use crate::services::{EndpointPod, Selecting, selected_pods, services_of_pod};
use crate::template_hash::significant;

const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Addresses beyond this are left out, and an annotation says so.
const ADDRESSES_MAX: usize = 1000;

pub(crate) struct EndpointsOfServices {
    services: Arc<Cache>,
    pods: Arc<Cache>,
    endpoints: Arc<Cache>,
}

pub(crate) enum View {
    /// The service is gone, its endpoints are not.
    Orphaned {
        key: ObjectKey,
        uid: String,
    },
    Selecting(Box<Selected>),
}

pub(crate) struct Selected {
    key: ObjectKey,
    labels: BTreeMap<String, String>,
    service: Selecting,
    pods: Vec<EndpointPod>,
    standing: Option<Object>,
}

impl EndpointsOfServices {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            services: factory.all::<Service>(),
            pods: factory.all::<Pod>(),
            endpoints: factory.all::<Endpoints>(),
        }
    }
}

impl Controller for EndpointsOfServices {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "endpoint-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.services);
        let services = Arc::clone(&self.services);
        on.mapped(&self.pods, move |change| services_of_pod(&services, change));
        on.primary(&self.endpoints);
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let standing = self.endpoints.get(key);
        let Some(stored) = self.services.get(key) else {
            // Only what this controller made goes with the service: others use Endpoints without one.
            let ours =
                standing.filter(|endpoints| endpoints.index.label(MANAGED_BY) == Some(MANAGER))?;
            return Some(View::Orphaned {
                key: key.clone(),
                uid: ours.index.uid.clone(),
            });
        };
        let service = Selecting::of(&stored)?;
        let pods = selected_pods(&self.pods, &key.namespace, &service.selector);
        let labels = stored.index.labels.iter();
        Some(View::Selecting(Box::new(Selected {
            key: key.clone(),
            labels: labels
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            service,
            pods,
            standing: standing.and_then(|endpoints| endpoints.to_object().ok()),
        })))
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        match view {
            View::Orphaned { key, uid } => {
                Plan::of(vec![Action::delete::<Endpoints>(key.clone(), uid.clone())])
            }
            View::Selecting(selected) => selected.plan(),
        }
    }
}

impl Selected {
    fn plan(&self) -> Plan {
        let (subsets, is_truncated) = self.subsets();
        let mut labels = self.labels.clone();
        labels.remove(HEADLESS);
        if self.service.is_headless {
            labels.insert(HEADLESS.into(), String::new());
        }
        labels.insert(MANAGED_BY.into(), MANAGER.into());
        let capacity = if is_truncated {
            json!("truncated")
        } else {
            Value::Null
        };
        let Some(standing) = &self.standing else {
            let annotations = if is_truncated {
                json!({OVER_CAPACITY: capacity})
            } else {
                json!({})
            };
            let object = json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": {
                    "name": self.key.name, "namespace": self.key.namespace,
                    "labels": labels, "annotations": annotations,
                },
                "subsets": subsets,
            });
            return Plan::of(vec![Action::Create {
                resource: resource_of::<Endpoints>(),
                object: Box::new(Object::from_value(object).expect("it is an object")),
                announcement: None,
            }]);
        };
        let standing_labels: BTreeMap<String, String> = standing
            .labels()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let standing_subsets = standing
            .at(&["subsets"])
            .cloned()
            .unwrap_or_else(|| json!([]));
        let is_same = standing_labels == labels
            && standing.annotation(OVER_CAPACITY).is_some() == is_truncated
            && significant(&standing_subsets) == significant(&Value::Array(subsets.clone()));
        if is_same {
            return Plan::nothing();
        }
        let mut wanted_labels: BTreeMap<&String, Option<&String>> =
            standing_labels.keys().map(|key| (key, None)).collect();
        wanted_labels.extend(labels.iter().map(|(key, value)| (key, Some(value))));
        let patch = json!({
            "metadata": {
                "resourceVersion": standing.resource_version(), "labels": wanted_labels,
                "annotations": {OVER_CAPACITY: capacity},
            },
            "subsets": subsets,
        });
        Plan::of(vec![Action::merge::<Endpoints>(self.key.clone(), patch)])
    }

    /// Addresses that share ports stand together, ready ones apart from others. True if some had to be left out.
    fn subsets(&self) -> (Vec<Value>, bool) {
        let family = self.service.families[0];
        let publishes = self.service.publishes_not_ready;
        let mut subsets: Vec<(Vec<Value>, Vec<Value>, Vec<Value>)> = Vec::new();
        let mut count = 0;
        let usable = |pod: &&EndpointPod| !pod.is_finished && (publishes || !pod.is_terminating);
        for pod in self.pods.iter().filter(usable) {
            let Some(address) = pod.address(family) else {
                continue;
            };
            let ports: Vec<Value> = self
                .service
                .ports
                .iter()
                .filter_map(|port| port_of(pod, port))
                .collect();
            if ports.is_empty() && !self.service.ports.is_empty() {
                continue;
            }
            count += 1;
            if count > ADDRESSES_MAX {
                continue;
            }
            let at = subsets
                .iter()
                .position(|(_, _, known)| *known == ports)
                .unwrap_or_else(|| {
                    subsets.push((Vec::new(), Vec::new(), ports));
                    subsets.len() - 1
                });
            let address = self.address(pod, address);
            let list = if publishes || pod.is_ready {
                &mut subsets[at].0
            } else {
                &mut subsets[at].1
            };
            list.push(address);
        }
        let subset = |(ready, not_ready, ports): (Vec<Value>, Vec<Value>, Vec<Value>)| {
            let mut subset = json!({});
            for (field, list) in [
                ("addresses", ready),
                ("notReadyAddresses", not_ready),
                ("ports", ports),
            ] {
                if !list.is_empty() {
                    subset[field] = list.into();
                }
            }
            subset
        };
        (
            subsets.into_iter().map(subset).collect(),
            count > ADDRESSES_MAX,
        )
    }

    fn address(&self, pod: &EndpointPod, address: &str) -> Value {
        let mut value = json!({
            "ip": address,
            "targetRef": {"kind": "Pod", "namespace": pod.key.namespace, "name": pod.key.name, "uid": pod.uid},
        });
        if !pod.node_name.is_empty() {
            value["nodeName"] = pod.node_name.clone().into();
        }
        if let Some(hostname) = pod.hostname_in(&self.key) {
            value["hostname"] = hostname.into();
        }
        value
    }
}

fn port_of(pod: &EndpointPod, port: &ServicePort) -> Option<Value> {
    let mut value = json!({
        "port": pod.target_port(port)?, "protocol": port.protocol.as_deref().unwrap_or("TCP"),
    });
    if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
        value["name"] = name.clone().into();
    }
    if let Some(app_protocol) = &port.app_protocol {
        value["appProtocol"] = app_protocol.clone().into();
    }
    Some(value)
}
