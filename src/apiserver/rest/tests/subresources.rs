//! What is written through a door of its own is validated as deeply as the whole object, by whatever verb it comes.

mod support;

use serde_json::{Value, json};
use support::{Client, Cluster, running_pod};

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// Update, merge patch and apply of the same change to `path`; every one must be refused, and say `why`.
async fn refused_by_all_verbs(
    client: &mut Client,
    object: &str,
    subresource: &str,
    change: Value,
    why: &str,
) {
    let path = format!("{object}/{subresource}");
    let (_, old) = client.call("GET", object, Value::Null).await;
    let mut whole = old.clone();
    merge(&mut whole, &change);
    let mut configuration = change.clone();
    for field in ["apiVersion", "kind"] {
        configuration[field] = old[field].clone();
    }
    let answers = [
        ("update", client.call("PUT", &path, whole).await),
        ("patch", client.merge(&path, change).await),
        ("apply", client.apply(&path, configuration).await),
    ];
    for (verb, (code, status)) in answers {
        assert_eq!(code, 422, "{verb}: {status}");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(why), "{verb}: {message}");
    }
    let (_, after) = client.call("GET", object, Value::Null).await;
    assert_eq!(after, old);
}

fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(target), Value::Object(patch)) = (&mut *target, patch) else {
        *target = patch.clone();
        return;
    };
    for (field, value) in patch {
        merge(target.entry(field).or_insert(Value::Null), value);
    }
}

async fn cluster_with_pod() -> (Cluster, Client) {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let container = json!({"name": "c", "image": "i",
        "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}});
    let spec = json!({"nodeName": "n", "containers": [container]});
    running_pod(&mut client, "p", spec).await;
    (cluster, client)
}

#[tokio::test]
async fn a_guest_container_is_validated_like_any_other() {
    let (_cluster, mut client) = cluster_with_pod().await;
    let guest = |more: Value| {
        let mut guest = json!({"name": "g", "image": "i"});
        merge(&mut guest, &more);
        json!({"spec": {"ephemeralContainers": [guest]}})
    };
    for (more, why) in [
        (
            json!({"name": "G!"}),
            "spec.ephemeralContainers[0].name: Invalid value: \"G!\"",
        ),
        (
            json!({"name": "c"}),
            "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "spec.ephemeralContainers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"env": [{"name": "a=b", "value": "x"}]}),
            "spec.ephemeralContainers[0].env[0].name: Invalid value: \"a=b\"",
        ),
        (
            json!({"targetContainerName": "nobody"}),
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"nobody\"",
        ),
        (
            json!({"ports": [{"containerPort": 1}]}),
            "spec.ephemeralContainers[0].ports: Forbidden",
        ),
    ] {
        refused_by_all_verbs(&mut client, POD, "ephemeralcontainers", guest(more), why).await;
    }
    let path = format!("{POD}/ephemeralcontainers");
    let (code, pod) = client.merge(&path, guest(json!({}))).await;
    assert_eq!(code, 200, "{pod}");
    assert_eq!(pod["metadata"]["generation"], 2);
    let (code, status) = client
        .merge(&path, json!({"spec": {"ephemeralContainers": []}}))
        .await;
    assert_eq!(code, 422, "{status}");
}

#[tokio::test]
async fn guests_are_applied_and_nothing_else_with_them() {
    let (_cluster, mut client) = cluster_with_pod().await;
    let configuration = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"ephemeralContainers": [{"name": "g", "image": "i"}]}});
    let path = format!("{POD}/ephemeralcontainers");
    let (code, pod) = client.apply(&path, configuration).await;
    assert_eq!(code, 200, "{pod}");
    assert_eq!(pod["spec"]["ephemeralContainers"][0]["name"], "g");
    assert_eq!(pod["metadata"]["labels"], Value::Null);
    let managers = pod["metadata"]["managedFields"]
        .as_array()
        .expect("managers");
    let own = managers.iter().find(|entry| entry["manager"] == "test");
    let fields = &own.expect("the applier owns something")["fieldsV1"];
    assert_eq!(fields["f:metadata"], Value::Null);
    assert!(fields["f:spec"]["f:ephemeralContainers"].is_object());
}

#[tokio::test]
async fn a_resize_changes_amounts_within_the_rules_of_a_pod() {
    let (_cluster, mut client) = cluster_with_pod().await;
    let resize = |resources: Value| {
        let container = json!({"name": "c", "image": "i", "resources": resources});
        json!({"spec": {"containers": [container]}})
    };
    for (resources, why) in [
        (
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": \
             must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"requests": {"cpu": "-1"}, "limits": {"cpu": "1"}}),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\"",
        ),
        (
            json!({"requests": {"cpu": "1", "ephemeral-storage": "1"}, "limits": {"cpu": "1"}}),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
    ] {
        refused_by_all_verbs(&mut client, POD, "resize", resize(resources), why).await;
    }
    let path = format!("{POD}/resize");
    let none = json!({"spec": {"containers": []}});
    let (code, status) = client.merge(&path, none).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().expect("a text");
    assert!(
        message.contains("containers may not be added or removed on resize"),
        "{message}"
    );
    let mut more = resize(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}));
    more["spec"]["containers"][0]["image"] = "other".into();
    let (code, pod) = client.merge(&path, more).await;
    assert_eq!(code, 200, "{pod}");
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"]["cpu"], "2");
    assert_eq!(container["image"], "i");
    assert_eq!(pod["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_resize_is_charged_to_the_quota_and_held_to_the_limits() {
    let (_cluster, mut client) = cluster_with_pod().await;
    let namespace = "/api/v1/namespaces/default";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "3"}}});
    let path = format!("{namespace}/resourcequotas");
    assert_eq!(client.call("POST", &path, quota).await.0, 201);
    let status = json!({"status": {"hard": {"requests.cpu": "3"}, "used": {"requests.cpu": "1"}}});
    assert_eq!(
        client.merge(&format!("{path}/q/status"), status).await.0,
        200
    );
    let amounts = |cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        json!({"spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
    };
    let resize = format!("{POD}/resize");
    let (code, status) = client.merge(&resize, amounts("4")).await;
    assert_eq!(code, 403, "{status}");
    let message = status["message"].as_str().expect("a text");
    assert!(
        message.ends_with(
            "exceeded quota: q, requested: requests.cpu=3, used: requests.cpu=1, \
            limited: requests.cpu=3"
        ),
        "{message}"
    );
    let (code, status) = client
        .merge(&format!("{resize}?dryRun=All"), amounts("4"))
        .await;
    assert_eq!(code, 403, "{status}");
    assert_eq!(client.merge(&resize, amounts("2")).await.0, 200);
    let (_, quota) = client.call("GET", &format!("{path}/q"), Value::Null).await;
    assert_eq!(quota["status"]["used"]["requests.cpu"], "2");
    let limits = json!({"metadata": {"name": "l"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    let path = format!("{namespace}/limitranges");
    assert_eq!(client.call("POST", &path, limits).await.0, 201);
    let (code, status) = client.merge(&resize, amounts("2500m")).await;
    assert_eq!(code, 403, "{status}");
    let message = status["message"].as_str().expect("a text");
    assert!(
        message.contains("maximum cpu usage per Container is 2"),
        "{message}"
    );
}

#[tokio::test]
async fn a_namespaces_finalizers_are_names() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let namespace = json!({"metadata": {"name": "a"}});
    let (_, mut namespace) = client.call("POST", "/api/v1/namespaces", namespace).await;
    namespace["spec"]["finalizers"] = json!(["kubernetes", "b@d"]);
    let path = "/api/v1/namespaces/a/finalize";
    let (code, status) = client.call("PUT", path, namespace.clone()).await;
    assert_eq!(code, 422, "{status}");
    let message = status["message"].as_str().expect("a text");
    assert!(
        message.contains("spec.finalizers[1]: Invalid value: \"b@d\""),
        "{message}"
    );
    namespace["spec"]["finalizers"] = json!(["kubernetes", "example.com/good"]);
    namespace["status"] = json!({"phase": "Terminating"});
    let (code, after) = client.call("PUT", path, namespace).await;
    assert_eq!(code, 200, "{after}");
    assert_eq!(after["status"]["phase"], "Active");
}

#[tokio::test]
async fn a_verdict_on_a_signing_request_is_complete_and_of_one_kind() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = pki::KeyPair::generate().expect("a key");
    let subject = pki::Subject::new("somebody", &[]);
    let pem = pki::CertificateRequest::create(&subject, &pki::SubjectNames::default(), &key)
        .expect("a request");
    use base64::Engine as _;
    let request = base64::engine::general_purpose::STANDARD.encode(pem);
    let spec =
        json!({"request": request, "signerName": "example.com/a", "usages": ["client auth"]});
    let body = json!({"metadata": {"name": "a"}, "spec": spec});
    let (code, created) = client.call("POST", requests, body).await;
    assert_eq!(code, 201, "{created}");
    let one = format!("{requests}/a");
    let verdicts = |verdicts: &[(&str, &str)]| {
        let conditions: Vec<Value> = verdicts
            .iter()
            .map(|(kind, status)| json!({"type": kind, "status": status, "reason": "r", "message": "m"}))
            .collect();
        json!({"status": {"conditions": conditions}})
    };
    for (verdict, why) in [
        (
            verdicts(&[("Approved", "False")]),
            "status.conditions[0].status: Unsupported value: \"False\"",
        ),
        (
            verdicts(&[("", "True")]),
            "status.conditions[0].type: Required value",
        ),
        (
            verdicts(&[("Approved", "True"), ("Denied", "True")]),
            "Approved and Denied conditions are mutually exclusive",
        ),
    ] {
        refused_by_all_verbs(&mut client, &one, "approval", verdict, why).await;
    }
    let path = format!("{one}/approval");
    let mut approval = verdicts(&[("Approved", "True")]);
    approval["spec"] = json!({"signerName": "example.com/other"});
    let (code, approved) = client.merge(&path, approval).await;
    assert_eq!(code, 200, "{approved}");
    assert_eq!(approved["spec"]["signerName"], "example.com/a");
    assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let (code, _) = client.merge(&path, verdicts(&[])).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn a_signing_request_proves_its_key_and_what_is_issued_is_certificates() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = pki::KeyPair::generate().expect("a key");
    let subject = pki::Subject::new("somebody", &[]);
    let pem = pki::CertificateRequest::create(&subject, &pki::SubjectNames::default(), &key)
        .expect("a request");
    let mut forged = pki::decode_pem("CERTIFICATE REQUEST", &pem).remove(0);
    let name = forged
        .windows(8)
        .position(|window| window == b"somebody")
        .expect("the name is in it");
    forged[name] = b'S';
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let body = |name: &str, pem: &str| {
        let spec = json!({"request": base64(pem), "signerName": "example.com/a", "usages": ["client auth"]});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let cut = pem.replacen('\n', "\nAAAA", 1);
    for (bad, why) in [
        ("text", "PEM block type must be CERTIFICATE REQUEST"),
        (cut.as_str(), "spec.request: Invalid value"),
        (
            &pki::encode_pem("CERTIFICATE REQUEST", &forged),
            "spec.request: Invalid value",
        ),
    ] {
        let (code, refused) = client.call("POST", requests, body("bad", bad)).await;
        assert_eq!(code, 422, "{refused}");
        assert!(refused["message"].to_string().contains(why), "{refused}");
    }
    let (code, created) = client.call("POST", requests, body("good", &pem)).await;
    assert_eq!(code, 201, "{created}");
    let status = format!("{requests}/good/status");
    for (issued, why) in [
        (
            "text".to_owned(),
            "must contain at least one CERTIFICATE PEM block",
        ),
        (
            pem,
            "only CERTIFICATE PEM blocks are allowed, found \\\"CERTIFICATE REQUEST\\\"",
        ),
        (
            pki::encode_pem("CERTIFICATE", b"no certificate"),
            "status.certificate: Invalid value",
        ),
    ] {
        let certificate = json!({"status": {"certificate": base64(&issued)}});
        let (code, refused) = client.merge(&status, certificate).await;
        assert_eq!(code, 422, "{refused}");
        assert!(
            refused["message"].to_string().contains(why),
            "{why}: {refused}"
        );
    }
}
