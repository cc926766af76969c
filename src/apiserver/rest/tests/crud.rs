//! Every kind can be created, read, watched, changed and deleted over HTTPS with a client certificate.

mod support;

use apimachinery::GroupVersionResource;
use auth::User;
use http_body_util::BodyExt as _;
use kube_client::{ListRequest, WatchEvent, WatchRequest};
use registry::{RESOURCES, Subresource, Verbs};
use serde_json::{Value, json};
use support::{Cluster, read};

fn path_of(description: &registry::Description) -> String {
    let kind = &description.kind;
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let place = if description.is_namespaced() {
        "/namespaces/default"
    } else {
        ""
    };
    format!("{root}{place}/{}", description.plural)
}

#[tokio::test]
async fn every_listable_kind_answers_an_empty_list() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    for resource in RESOURCES {
        let description = resource.description();
        if description.verbs == Verbs::Create {
            continue;
        }
        let (code, list) = client
            .call("GET", &path_of(&description), Value::Null)
            .await;
        assert_eq!(code, 200, "{list}");
        assert_eq!(list["kind"], description.list_kind.as_ref());
    }
}

#[tokio::test]
async fn a_config_map_lives_from_create_to_delete() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let (code, created) = client
        .call(
            "POST",
            path,
            json!({"metadata": {"generateName": "a-"}, "data": {"k": "v"}}),
        )
        .await;
    assert_eq!(code, 201, "{created}");
    let name = created["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    assert!(name.starts_with("a-") && name.len() == 7);
    let one = format!("{path}/{name}");
    let (code, again) = client
        .call("POST", path, json!({"metadata": {"name": name}}))
        .await;
    assert_eq!(
        (code, again["reason"].as_str()),
        (409, Some("AlreadyExists"))
    );
    let mut stale = created.clone();
    stale["metadata"]["resourceVersion"] = "1".into();
    let (code, conflict) = client.call("PUT", &one, stale).await;
    assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")));
    let patch = client
        .send_as(
            "PATCH",
            &one,
            "application/merge-patch+json",
            json!({"data": {"k": null, "l": "w"}}),
        )
        .await;
    let (code, patched) = read(patch).await;
    assert_eq!((code, &patched["data"]), (200, &json!({"l": "w"})));
    let (code, status) = client.call("DELETE", &one, Value::Null).await;
    assert_eq!((code, status["status"].as_str()), (200, Some("Success")));
    let (code, _) = client.call("GET", &one, Value::Null).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_write_that_changes_nothing_writes_nothing() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let (_, created) = client
        .call("POST", path, json!({"metadata": {"name": "a"}}))
        .await;
    let (code, same) = client
        .call("PUT", &format!("{path}/a"), created.clone())
        .await;
    assert_eq!((code, same), (200, created));
}

#[tokio::test]
async fn a_watch_over_https_tells_each_change() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let mut watcher = cluster.connect_as_admin().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let mut events = watcher
        .send("GET", &format!("{path}?watch=1"), Value::Null)
        .await
        .into_body();
    client
        .call("POST", path, json!({"metadata": {"name": "a"}}))
        .await;
    client
        .call("DELETE", &format!("{path}/a"), Value::Null)
        .await;
    for expected in ["ADDED", "DELETED"] {
        let frame = events
            .frame()
            .await
            .expect("an event")
            .expect("a frame")
            .into_data()
            .expect("data");
        let event: Value = serde_json::from_slice(&frame).expect("JSON");
        assert_eq!(event["type"], expected);
    }
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_gone() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let path = "/api/v1/namespaces/default/configmaps";
    client
        .call(
            "POST",
            path,
            json!({"metadata": {"name": "a", "finalizers": ["x.y/z"]}}),
        )
        .await;
    let (code, pending) = client
        .call("DELETE", &format!("{path}/a"), Value::Null)
        .await;
    assert_eq!(code, 200);
    assert!(pending["metadata"]["deletionTimestamp"].is_string());
    let patch = json!({"metadata": {"finalizers": null}});
    client
        .send_as(
            "PATCH",
            &format!("{path}/a"),
            "application/merge-patch+json",
            patch,
        )
        .await
        .into_body()
        .collect()
        .await
        .expect("a body");
    let (code, _) = client.call("GET", &format!("{path}/a"), Value::Null).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_status_is_written_through_its_own_door_only() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let path = "/apis/apps/v1/namespaces/default/replicasets";
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let body = json!({"metadata": {"name": "a"}, "spec": spec, "status": {"replicas": 7}});
    let (code, created) = client.call("POST", path, body).await;
    assert_eq!(
        (code, &created["status"]["replicas"]),
        (201, &json!(0)),
        "{created}"
    );
    let mut changed = created.clone();
    changed["spec"]["replicas"] = 5.into();
    changed["status"]["replicas"] = 2.into();
    let (_, after_status) = client
        .call("PUT", &format!("{path}/a/status"), changed.clone())
        .await;
    assert_eq!(after_status["status"]["replicas"], 2);
    assert_eq!(
        after_status["spec"]["replicas"],
        created["spec"]["replicas"]
    );
    assert_eq!(after_status["metadata"]["generation"], 1);
    changed["metadata"]["resourceVersion"] = after_status["metadata"]["resourceVersion"].clone();
    changed["status"]["replicas"] = 9.into();
    let (_, after_spec) = client.call("PUT", &format!("{path}/a"), changed).await;
    assert_eq!(
        (
            &after_spec["status"]["replicas"],
            &after_spec["spec"]["replicas"]
        ),
        (&json!(2), &json!(5))
    );
    assert_eq!(after_spec["metadata"]["generation"], 2);
}

#[tokio::test]
async fn discovery_names_every_kind_and_subresource() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    for resource in RESOURCES {
        let description = resource.description();
        let path = path_of(&description);
        let root = path.replace("/namespaces/default", "");
        let root = root.rsplit_once('/').expect("a path").0;
        let (_, list) = client.call("GET", root, Value::Null).await;
        let names: Vec<&str> = list["resources"]
            .as_array()
            .expect("resources")
            .iter()
            .filter_map(|entry| entry["name"].as_str())
            .collect();
        assert!(names.contains(&description.plural.as_ref()));
        for subresource in &description.subresources {
            let name = format!("{}/{}", description.plural, Subresource::name(*subresource));
            assert!(names.contains(&name.as_str()), "{name}");
        }
    }
}

#[tokio::test]
async fn a_component_in_the_process_lists_and_watches_without_copies() {
    let cluster = Cluster::start(0).await;
    let transport = cluster
        .server
        .transport(User::named("admin", &["system:masters"]));
    let list = ListRequest {
        resource: GroupVersionResource::new("", "v1", "configmaps"),
        namespace: None,
        label_selector: "a=b".to_owned(),
        field_selector: String::new(),
    };
    let before = transport.list(list.clone()).await.expect("a list");
    assert!(before.items.is_empty());
    let mut watch = transport
        .watch(WatchRequest {
            list: list.clone(),
            after_revision: before.revision,
        })
        .await
        .expect("a watch");
    let body = json!({"metadata": {"name": "a", "labels": {"a": "b"}}}).to_string();
    let request = kube_client::Request {
        method: kube_client::Method::Post,
        path: "/api/v1/namespaces/default/configmaps".to_owned(),
        content_type: "application/json",
        body: body.into(),
    };
    assert_eq!(transport.call(request).await.expect("an answer").code, 201);
    let Some(WatchEvent::Added(seen)) = watch.recv().await else {
        panic!("it was added")
    };
    let after = transport.list(list).await.expect("a list");
    assert!(std::sync::Arc::ptr_eq(&seen.bytes, &after.items[0].bytes));
}

#[tokio::test]
async fn services_claim_addresses_and_ports_and_give_them_back() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let path = "/api/v1/namespaces/default/services";
    let spec = json!({"type": "NodePort", "ports": [{"port": 80}], "selector": {"a": "b"}});
    let (code, created) = client
        .call(
            "POST",
            path,
            json!({"metadata": {"name": "a"}, "spec": spec}),
        )
        .await;
    assert_eq!(code, 201, "{created}");
    let address = created["spec"]["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    let port = created["spec"]["ports"][0]["nodePort"]
        .as_u64()
        .expect("a port");
    let claimed = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
    assert_eq!(client.call("GET", &claimed, Value::Null).await.0, 200);
    let same = json!({"type": "NodePort", "clusterIP": address, "ports": [{"port": 80}]});
    let (code, refused) = client
        .call(
            "POST",
            path,
            json!({"metadata": {"name": "b"}, "spec": same}),
        )
        .await;
    assert_eq!(code, 422);
    assert!(
        refused["message"]
            .as_str()
            .expect("a text")
            .ends_with("provided IP is already allocated"),
        "{refused}"
    );
    let taken = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let (_, refused) = client
        .call(
            "POST",
            path,
            json!({"metadata": {"name": "b"}, "spec": taken.clone()}),
        )
        .await;
    assert!(
        refused["message"]
            .as_str()
            .expect("a text")
            .ends_with("provided port is already allocated"),
        "{refused}"
    );
    let patch = json!({"spec": {"type": "ClusterIP"}});
    let patched = client
        .send_as(
            "PATCH",
            &format!("{path}/a"),
            "application/merge-patch+json",
            patch,
        )
        .await;
    let (code, patched) = read(patched).await;
    assert_eq!(
        (code, &patched["spec"]["ports"][0]["nodePort"]),
        (200, &Value::Null),
        "{patched}"
    );
    let (code, _) = client
        .call(
            "POST",
            path,
            json!({"metadata": {"name": "b"}, "spec": taken}),
        )
        .await;
    assert_eq!(code, 201);
    assert_eq!(
        client
            .call("DELETE", &format!("{path}/a"), Value::Null)
            .await
            .0,
        200
    );
    assert_eq!(client.call("GET", &claimed, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_bootstrapped_cluster_has_what_clients_expect_and_stays_so() {
    let cluster = Cluster::start(0).await;
    cluster.server.bootstrap().await.expect("again");
    let mut client = cluster.connect_as_admin().await;
    for path in [
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default/services/kubernetes",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
        "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/exempt",
        "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps",
    ] {
        let (code, found) = client.call("GET", path, Value::Null).await;
        assert_eq!(code, 200, "{path}: {found}");
    }
}

#[tokio::test]
async fn a_signing_request_carries_its_makers_identity_and_a_verdict_stands() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = pki::KeyPair::generate().expect("a key");
    let subject = pki::Subject::new("somebody", &[]);
    let pem = pki::CertificateRequest::create(&subject, &pki::SubjectNames::default(), &key)
        .expect("a request");
    use base64::Engine as _;
    let request = base64::engine::general_purpose::STANDARD.encode(pem);
    let spec = json!({"request": request, "signerName": "example.com/a", "usages": ["client auth"], "username": "system:admin"});
    let (code, created) = client
        .call(
            "POST",
            path,
            json!({"metadata": {"name": "a"}, "spec": spec}),
        )
        .await;
    assert_eq!(
        (code, created["spec"]["username"].as_str()),
        (201, Some("admin")),
        "{created}"
    );
    let mut approved = created.clone();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]});
    let (code, approved) = client
        .call("PUT", &format!("{path}/a/approval"), approved)
        .await;
    assert_eq!(code, 200, "{approved}");
    let mut taken_back = approved.clone();
    taken_back["status"] = json!({});
    assert_eq!(
        client
            .call("PUT", &format!("{path}/a/approval"), taken_back)
            .await
            .0,
        422
    );
}
