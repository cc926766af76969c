//! Namespaces, garbage collection, endpoints and nodes against an API in memory.

mod support;

use apimachinery::GroupVersionResource;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube_client::fake::FakeResource;
use kube_client::{DeleteOptions, Propagation};
use serde_json::{Value, json};
use support::{Cluster, condition};

fn owned(name: &str, owner_kind: &str, owner: &apimachinery::Object) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [{
        "apiVersion": "v1", "kind": owner_kind, "name": owner.name(), "uid": owner.uid(), "blockOwnerDeletion": true,
    }]}})
}

fn with(propagation: Propagation) -> DeleteOptions {
    DeleteOptions {
        propagation: Some(propagation),
        ..DeleteOptions::default()
    }
}

#[tokio::test]
async fn a_namespace_has_its_account_and_certificates_and_takes_all_with_it() {
    let cluster = Cluster::start(&[
        "serviceaccount-controller",
        "root-ca-certificate-publisher-controller",
        "namespace-controller",
    ]);
    cluster.api.serve(FakeResource::new(
        "example.com",
        "v1",
        "things",
        "Thing",
        true,
    ));
    let things = GroupVersionResource::new("example.com", "v1", "things");
    cluster.create_namespace("a").await;
    cluster
        .until("account and certificates", |cluster| {
            cluster.get::<ServiceAccount>("a", "default").is_some()
                && cluster.get::<ConfigMap>("a", "kube-root-ca.crt").is_some()
        })
        .await;
    cluster
        .delete::<ConfigMap>("a", "kube-root-ca.crt", DeleteOptions::default())
        .await;
    cluster
        .until("certificates again", |cluster| {
            cluster.get::<ConfigMap>("a", "kube-root-ca.crt").is_some()
        })
        .await;

    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "finalizers": ["x/y"]}});
    let api = cluster.client.dynamic(things.clone(), "a");
    api.create(&apimachinery::Object::from_value(thing).expect("an object"))
        .await
        .expect("created");
    cluster
        .delete::<Namespace>("", "a", DeleteOptions::default())
        .await;
    cluster
        .until("it says what remains", |cluster| {
            let namespace = cluster.get::<Namespace>("", "a").expect("it waits");
            condition(&namespace, "NamespaceFinalizersRemaining").is_some_and(|remaining| {
                remaining["message"]
                    == "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
            })
        })
        .await;
    api.patch(
        "t",
        &kube_client::Patch::Merge(json!({"metadata": {"finalizers": null}})),
    )
    .await
    .expect("patched");
    cluster
        .until("it is gone", |cluster| {
            cluster.get::<Namespace>("", "a").is_none()
        })
        .await;
    assert!(cluster.all::<ServiceAccount>().is_empty() && cluster.all_of(&things).is_empty());
}

#[tokio::test]
async fn pods_go_before_anything_else_in_their_namespace() {
    let cluster = Cluster::start(&["namespace-controller"]);
    cluster.create_namespace("a").await;
    let pod = json!({"metadata": {"name": "p", "finalizers": ["x/y"]}, "spec": {"containers": []}});
    cluster.create::<Pod>("a", pod).await;
    cluster
        .create::<ConfigMap>("a", json!({"metadata": {"name": "m"}}))
        .await;
    cluster
        .delete::<Namespace>("", "a", DeleteOptions::default())
        .await;
    cluster
        .until("the pod is told to go", |cluster| {
            cluster
                .get::<Pod>("a", "p")
                .expect("it waits")
                .is_being_deleted()
        })
        .await;
    assert!(cluster.get::<ConfigMap>("a", "m").is_some());
    cluster
        .merge::<Pod>("a", "p", json!({"metadata": {"finalizers": null}}))
        .await;
    cluster
        .until("it is gone", |cluster| {
            cluster.get::<Namespace>("", "a").is_none()
        })
        .await;
}

const COLLECTOR: &[&str] = &["garbage-collector-controller"];

#[tokio::test]
async fn dependents_follow_their_last_owner_and_orphans_stay() {
    let cluster = Cluster::start(COLLECTOR);
    let first = cluster
        .create::<ConfigMap>("a", json!({"metadata": {"name": "first"}}))
        .await;
    let second = cluster
        .create::<ConfigMap>("a", json!({"metadata": {"name": "second"}}))
        .await;
    let mut both = owned("both", "ConfigMap", &first);
    let more = owned("", "ConfigMap", &second)["metadata"]["ownerReferences"][0].clone();
    both["metadata"]["ownerReferences"]
        .as_array_mut()
        .expect("a list")
        .push(more);
    cluster.create::<Pod>("a", both).await;
    let child = cluster
        .create::<Pod>("a", owned("child", "ConfigMap", &first))
        .await;
    cluster
        .create::<Pod>("a", owned("grandchild", "Pod", &child))
        .await;
    cluster
        .delete::<ConfigMap>("a", "first", with(Propagation::Background))
        .await;
    cluster
        .until("the line is gone", |cluster| {
            cluster.all::<Pod>().len() == 1
        })
        .await;
    cluster
        .until("the survivor has one owner", |cluster| {
            cluster
                .get::<Pod>("a", "both")
                .expect("it stays")
                .owner_references()
                .len()
                == 1
        })
        .await;
    cluster
        .delete::<ConfigMap>("a", "second", with(Propagation::Orphan))
        .await;
    cluster
        .until("the owner is gone", |cluster| {
            cluster.get::<ConfigMap>("a", "second").is_none()
        })
        .await;
    assert!(
        cluster
            .get::<Pod>("a", "both")
            .expect("it stays")
            .owner_references()
            .is_empty()
    );
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_what_blocks_it_even_in_a_circle() {
    let cluster = Cluster::start(COLLECTOR);
    let owner = cluster
        .create::<ConfigMap>("a", json!({"metadata": {"name": "owner"}}))
        .await;
    let mut held = owned("held", "ConfigMap", &owner);
    held["metadata"]["finalizers"] = json!(["x/y"]);
    cluster.create::<Pod>("a", held).await;
    cluster
        .delete::<ConfigMap>("a", "owner", with(Propagation::Foreground))
        .await;
    cluster
        .until("the dependent is told to go", |cluster| {
            cluster
                .get::<Pod>("a", "held")
                .expect("held")
                .is_being_deleted()
        })
        .await;
    assert!(cluster.get::<ConfigMap>("a", "owner").is_some());
    cluster
        .merge::<Pod>("a", "held", json!({"metadata": {"finalizers": null}}))
        .await;
    cluster
        .until("both are gone", |cluster| {
            cluster.all::<ConfigMap>().is_empty() && cluster.all::<Pod>().is_empty()
        })
        .await;

    let mut pods = Vec::new();
    for name in ["one", "two", "three"] {
        pods.push(
            cluster
                .create::<Pod>("a", json!({"metadata": {"name": name}}))
                .await,
        );
    }
    for (at, pod) in pods.iter().enumerate() {
        let references =
            owned("", "Pod", &pods[(at + 1) % 3])["metadata"]["ownerReferences"].clone();
        cluster
            .merge::<Pod>(
                "a",
                pod.name(),
                json!({"metadata": {"ownerReferences": references}}),
            )
            .await;
    }
    cluster
        .delete::<Pod>("a", "one", with(Propagation::Foreground))
        .await;
    cluster
        .until("the circle is gone", |cluster| {
            cluster.all::<Pod>().is_empty()
        })
        .await;
}

#[tokio::test]
async fn an_owner_that_never_was_takes_its_dependent_along() {
    let cluster = Cluster::start(COLLECTOR);
    let ghost =
        apimachinery::Object::from_value(json!({"metadata": {"name": "ghost", "uid": "none"}}))
            .expect("an object");
    cluster
        .create::<Pod>("a", owned("p", "ConfigMap", &ghost))
        .await;
    cluster
        .until("it is gone", |cluster| cluster.all::<Pod>().is_empty())
        .await;
}

fn web_pod(name: &str, address: &str, is_ready: bool) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}]}})
}

#[tokio::test]
async fn a_service_publishes_its_pods_in_both_forms() {
    let cluster = Cluster::start(&[
        "endpointslice-controller",
        "endpoints-controller",
        "endpointslice-mirroring-controller",
    ]);
    let service = json!({"metadata": {"name": "web", "labels": {"x": "y"}}, "spec": {"selector": {"app": "web"},
        "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>("a", service).await;
    cluster
        .until("empty forms", |cluster| {
            cluster.all::<EndpointSlice>().len() == 1 && cluster.all::<Endpoints>().len() == 1
        })
        .await;
    cluster
        .create::<Pod>("a", web_pod("p", "10.1.0.1", true))
        .await;
    cluster
        .create::<Pod>("a", web_pod("q", "10.1.0.2", false))
        .await;
    cluster
        .until("both pods", |cluster| {
            let slices = cluster.all::<EndpointSlice>();
            let endpoints = cluster.get::<Endpoints>("a", "web").expect("it is there");
            slices.len() == 1
                && slices[0].label("kubernetes.io/service-name") == Some("web")
                && slices[0]
                    .at(&["endpoints"])
                    .and_then(Value::as_array)
                    .is_some_and(|all| {
                        all.len() == 2
                            && all[0]["conditions"]["ready"] == true
                            && all[1]["conditions"]["ready"] == false
                    })
                && slices[0]
                    .at(&["ports"])
                    .is_some_and(|ports| ports[0]["port"] == 8080)
                && endpoints.at(&["subsets"]).is_some_and(|subsets| {
                    subsets[0]["addresses"][0]["ip"] == "10.1.0.1"
                        && subsets[0]["notReadyAddresses"][0]["ip"] == "10.1.0.2"
                })
        })
        .await;
    cluster
        .delete::<Service>("a", "web", DeleteOptions::default())
        .await;
    cluster
        .until("its endpoints go", |cluster| {
            cluster.all::<Endpoints>().is_empty()
        })
        .await;
}

#[tokio::test]
async fn endpoints_that_people_write_are_mirrored() {
    let cluster = Cluster::start(&[
        "endpointslice-controller",
        "endpoints-controller",
        "endpointslice-mirroring-controller",
    ]);
    cluster
        .create::<Service>(
            "a",
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
        )
        .await;
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"port": 9, "protocol": "TCP"}]}]});
    cluster.create::<Endpoints>("a", endpoints).await;
    let first = |cluster: &Cluster| {
        cluster
            .all::<EndpointSlice>()
            .first()
            .and_then(|slice| slice.at(&["endpoints"]).cloned())
    };
    cluster
        .until("mirrored", |cluster| {
            first(cluster).is_some_and(|all| all[0]["addresses"][0] == "10.2.3.4")
        })
        .await;
    cluster
        .merge::<Endpoints>(
            "a",
            "s",
            json!({"subsets": [{"addresses": [{"ip": "10.2.3.5"}], "ports": [{"port": 9, "protocol": "TCP"}]}]}),
        )
        .await;
    cluster
        .until("followed", |cluster| {
            first(cluster).is_some_and(|all| all[0]["addresses"][0] == "10.2.3.5")
        })
        .await;
}

#[tokio::test]
async fn a_node_that_is_not_ready_loses_pods_that_do_not_tolerate_it() {
    let cluster = Cluster::start(&["node-lifecycle-controller", "taint-eviction-controller"]);
    let node = |name: &str, ready: &str| json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    cluster.create::<Node>("", node("good", "True")).await;
    cluster.create::<Node>("", node("bad", "False")).await;
    let pod = |name: &str, tolerations: Value| json!({"metadata": {"name": name}, "spec": {"nodeName": "bad", "containers": [], "tolerations": tolerations}});
    cluster.create::<Pod>("a", pod("goes", json!([]))).await;
    cluster
        .create::<Pod>("a", pod("stays", json!([{"operator": "Exists"}])))
        .await;
    cluster
        .until("tainted, and the one evicted", |cluster| {
            let taints = cluster
                .get::<Node>("", "bad")
                .expect("a node")
                .at(&["spec", "taints"])
                .cloned()
                .unwrap_or_default();
            let goes = cluster.get::<Pod>("a", "goes").expect("a pod");
            taints.as_array().is_some_and(|taints| taints.len() == 2)
                && goes.is_being_deleted()
                && condition(&goes, "DisruptionTarget")
                    .is_some_and(|one| one["reason"] == "DeletionByTaintManager")
        })
        .await;
    assert!(
        !cluster
            .get::<Pod>("a", "stays")
            .expect("a pod")
            .is_being_deleted()
    );
    cluster
        .merge_status::<Node>(
            "",
            "bad",
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .await;
    cluster
        .until("no taint", |cluster| {
            cluster
                .get::<Node>("", "bad")
                .expect("a node")
                .at(&["spec", "taints"])
                .is_none_or(|taints| taints == &json!([]))
        })
        .await;
}

/// A node of which nothing is known any more, and a pod on it that tolerates nothing.
async fn lose(cluster: &Cluster, node: &str, labels: Value) {
    let status = json!({"conditions": [{"type": "Ready", "status": "Unknown"},
        {"type": "MemoryPressure", "status": "Unknown"}, {"type": "DiskPressure", "status": "Unknown"},
        {"type": "PIDPressure", "status": "Unknown"}]});
    cluster
        .create::<Node>(
            "",
            json!({"metadata": {"name": node, "labels": labels}, "status": status}),
        )
        .await;
    let pod = json!({"metadata": {"name": format!("on-{node}")}, "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.create::<Pod>("a", pod).await;
}

fn taints(cluster: &Cluster, node: &str) -> Vec<(String, String)> {
    let node = cluster.get::<Node>("", node).expect("a node");
    let taints = node.at(&["spec", "taints"]).and_then(Value::as_array);
    let text = |taint: &Value, key: &str| taint[key].as_str().unwrap_or_default().to_owned();
    let mut taints: Vec<_> = taints
        .into_iter()
        .flatten()
        .map(|taint| (text(taint, "key"), text(taint, "effect")))
        .collect();
    taints.sort();
    taints
}

fn is_going(cluster: &Cluster, pod: &str) -> bool {
    let pod = cluster.get::<Pod>("a", pod).expect("a pod");
    pod.is_being_deleted()
}

const NODE_CONTROLLERS: &[&str] = &[
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "pod-garbage-collector-controller",
];

#[tokio::test]
async fn a_lost_node_with_autonomy_keeps_its_pods_and_gets_no_new_ones() {
    let cluster = Cluster::start(NODE_CONTROLLERS);
    let ready = json!({"metadata": {"name": "good"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.create::<Node>("", ready).await;
    lose(&cluster, "alone", json!({"combo.io/autonomy": "true"})).await;
    lose(&cluster, "other", json!({"combo.io/autonomy": "yes"})).await;
    let unreachable = |effect: &str| {
        (
            "node.kubernetes.io/unreachable".to_owned(),
            effect.to_owned(),
        )
    };
    cluster
        .until("both are tainted and the one evicted", |cluster| {
            is_going(cluster, "on-other")
                && taints(cluster, "other") == [unreachable("NoExecute"), unreachable("NoSchedule")]
                && taints(cluster, "alone") == [unreachable("NoSchedule")]
        })
        .await;
    cluster
        .until("no traffic is sent to what is not reached", |cluster| {
            let pod = cluster.get::<Pod>("a", "on-alone").expect("a pod");
            condition(&pod, "Ready").is_some_and(|ready| ready["status"] == "False")
        })
        .await;
    assert!(!is_going(&cluster, "on-alone"));
    // What the administrator takes away is gone.
    cluster
        .merge::<Node>(
            "",
            "alone",
            json!({"metadata": {"labels": {"combo.io/autonomy": null}}}),
        )
        .await;
    cluster
        .until("evicted as well", |cluster| is_going(cluster, "on-alone"))
        .await;
}

#[tokio::test]
async fn autonomy_saves_pods_that_wait_for_their_eviction() {
    let cluster = Cluster::start(NODE_CONTROLLERS);
    let ready = json!({"metadata": {"name": "good"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.create::<Node>("", ready).await;
    lose(&cluster, "late", json!({})).await;
    let waits = json!({"metadata": {"name": "waits"}, "spec": {"nodeName": "late", "containers": [], "tolerations": [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]}});
    cluster.create::<Pod>("a", waits).await;
    cluster
        .until("the impatient pod goes", |cluster| {
            is_going(cluster, "on-late")
        })
        .await;
    cluster
        .merge::<Node>(
            "",
            "late",
            json!({"metadata": {"labels": {"combo.io/autonomy": "true"}}}),
        )
        .await;
    cluster
        .until("it is pardoned", |cluster| {
            let events = cluster.all::<k8s_openapi::api::core::v1::Event>();
            events
                .iter()
                .any(|event| event.text_at(&["message"]) == "Cancelling deletion of Pod a/waits")
        })
        .await;
    assert!(!is_going(&cluster, "waits"));
}

#[tokio::test]
async fn what_a_person_asks_for_holds_on_a_node_with_autonomy() {
    let cluster = Cluster::start(NODE_CONTROLLERS);
    lose(&cluster, "alone", json!({"combo.io/autonomy": "true"})).await;
    let drained = json!([{"key": "example.com/drained", "effect": "NoExecute"}]);
    cluster
        .merge::<Node>("", "alone", json!({"spec": {"taints": drained}}))
        .await;
    cluster
        .until("evicted", |cluster| is_going(cluster, "on-alone"))
        .await;
}

#[tokio::test]
async fn an_aggregated_role_has_the_rules_of_its_parts() {
    let cluster = Cluster::start(&["clusterrole-aggregation-controller"]);
    let whole = json!({"metadata": {"name": "whole"}, "rules": [], "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}});
    cluster.create::<ClusterRole>("", whole).await;
    cluster
        .create::<ClusterRole>(
            "",
            json!({"metadata": {"name": "part", "labels": {"part": "yes"}}, "rules": [{"verbs": ["get"]}]}),
        )
        .await;
    cluster
        .until("filled", |cluster| {
            cluster
                .get::<ClusterRole>("", "whole")
                .expect("a role")
                .at(&["rules"])
                == Some(&json!([{"verbs": ["get"]}]))
        })
        .await;
}

#[tokio::test]
async fn a_disruption_budget_counts_the_pods_it_can_spare() {
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
    let cluster = Cluster::start(&["disruption-controller"]);
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    cluster.create::<PodDisruptionBudget>("a", budget).await;
    let allowed = |cluster: &Cluster| {
        let budget = cluster
            .get::<PodDisruptionBudget>("a", "b")
            .expect("a budget");
        (
            support::number(&budget, &["status", "disruptionsAllowed"]),
            support::number(&budget, &["status", "currentHealthy"]),
        )
    };
    for name in ["p", "q", "r"] {
        cluster
            .create::<Pod>("a", web_pod(name, "10.1.0.1", true))
            .await;
    }
    cluster
        .until("two can go", |cluster| allowed(cluster) == (2, 3))
        .await;
    cluster
        .merge_status::<Pod>(
            "a",
            "p",
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        )
        .await;
    cluster
        .until("one can go", |cluster| allowed(cluster) == (1, 2))
        .await;
}

#[tokio::test]
async fn a_quota_says_what_its_namespace_uses() {
    use k8s_openapi::api::core::v1::ResourceQuota;
    let cluster = Cluster::start(&["resourcequota-controller"]);
    let hard = json!({"pods": "5", "requests.cpu": "2", "configmaps": "3", "services.nodeports": "1", "count/deployments.apps": "1"});
    cluster
        .create::<ResourceQuota>(
            "a",
            json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}),
        )
        .await;
    let used = |cluster: &Cluster, name: &str| {
        cluster
            .get::<ResourceQuota>("a", "q")
            .expect("a quota")
            .text_at(&["status", "used", name])
    };
    cluster
        .until("nothing", |cluster| {
            used(cluster, "pods") == "0" && used(cluster, "count/deployments.apps") == "0"
        })
        .await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]}});
    cluster.create::<Pod>("a", pod).await;
    cluster
        .create::<ConfigMap>("a", json!({"metadata": {"name": "m"}}))
        .await;
    cluster
        .until("charged", |cluster| {
            used(cluster, "pods") == "1"
                && used(cluster, "requests.cpu") == "1500m"
                && used(cluster, "configmaps") == "1"
        })
        .await;
    cluster
        .delete::<Pod>("a", "p", DeleteOptions::default())
        .await;
    cluster
        .until("released", |cluster| {
            used(cluster, "pods") == "0" && used(cluster, "requests.cpu") == "0"
        })
        .await;
}
