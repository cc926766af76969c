//! Logs and upgraded streams pass through to the kubelet and back; idle and broken connections hurt nobody.

mod support;

use std::sync::{Arc, Mutex};

use admission::{AdmissionRequest, Operation, Plugin};
use apimachinery::ApiError;
use async_trait::async_trait;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rest::{ByteStream, DialError, KubeletAddress, KubeletDialer};
use serde_json::{Value, json};
use support::{Cluster, read, running_pod};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A kubelet that tells what it was asked, and echoes what comes over an upgraded connection.
#[derive(Debug)]
struct Echo;

async fn answer(
    mut request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<bytes::Bytes>>, std::convert::Infallible> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        env::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.expect("an upgrade"));
            let mut bytes = [0; 5];
            io.read_exact(&mut bytes).await.expect("five bytes");
            io.write_all(&bytes).await.expect("an open stream");
            io.shutdown().await.expect("an open stream");
        });
        let response = http::Response::builder()
            .status(101)
            .header("connection", "Upgrade")
            .header("upgrade", "echo");
        return Ok(response.body(Full::default()).expect("a response"));
    }
    let told = format!(
        "{} {} auth={}",
        request.method(),
        request.uri(),
        request.headers().contains_key("authorization")
    );
    Ok(http::Response::new(Full::from(told)))
}

fn serve() -> Box<dyn ByteStream> {
    let (ours, theirs) = tokio::io::duplex(4096);
    let service = hyper::service::service_fn(answer);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(theirs), service)
        .with_upgrades();
    env::spawn(connection);
    Box::new(ours)
}

#[async_trait]
impl KubeletDialer for Echo {
    async fn dial_kubelet(
        &self,
        address: &KubeletAddress,
    ) -> Result<Box<dyn ByteStream>, DialError> {
        assert_eq!((address.host.as_str(), address.port), ("10.9.8.7", 10250));
        Ok(serve())
    }

    async fn dial(
        &self,
        _node: Option<&str>,
        _host: &str,
        _port: u16,
    ) -> Result<Box<dyn ByteStream>, DialError> {
        Ok(serve())
    }
}

async fn cluster_with_pod() -> Cluster {
    cluster_with_plugin(None).await
}

async fn cluster_with_plugin(plugin: Option<Arc<Watchman>>) -> Cluster {
    let cluster = Cluster::start_changed(0, |config| {
        config.kubelets = Some(Arc::new(Echo));
        if let Some(plugin) = plugin {
            config.admission.push(plugin);
        }
    })
    .await;
    let mut client = cluster.connect_as_admin().await;
    let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.8.7"}]}});
    assert_eq!(client.call("POST", "/api/v1/nodes", node).await.0, 201);
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
    running_pod(&mut client, "p", spec).await;
    cluster
}

#[tokio::test]
async fn a_log_comes_from_the_kubelet_with_its_options() {
    let cluster = cluster_with_pod().await;
    let mut client = cluster.connect_as_admin().await;
    let (code, text) = client
        .call(
            "GET",
            "/api/v1/namespaces/default/pods/p/log?tailLines=3&follow=true",
            Value::Null,
        )
        .await;
    assert_eq!(
        (code, text),
        (
            200,
            json!("GET /containerLogs/default/p/c?follow=true&tailLines=3 auth=false")
        )
    );
}

#[tokio::test]
async fn a_proxied_pod_sees_the_rest_of_the_path() {
    let cluster = cluster_with_pod().await;
    let mut client = cluster.connect_as_admin().await;
    let (code, text) = client
        .call(
            "GET",
            "/api/v1/namespaces/default/pods/p:8080/proxy/a/b?c=d",
            Value::Null,
        )
        .await;
    assert_eq!((code, text), (200, json!("GET /a/b?c=d auth=false")));
    let (code, _) = client
        .call(
            "GET",
            "/api/v1/namespaces/default/pods/p/proxy",
            Value::Null,
        )
        .await;
    assert_eq!(code, 301);
}

#[tokio::test]
async fn an_upgraded_stream_passes_bytes_both_ways() {
    let cluster = cluster_with_pod().await;
    let mut client = cluster.connect_as_admin().await;
    let request = http::Request::builder()
        .method("GET")
        .uri("/api/v1/namespaces/default/pods/p/exec?command=ls&stdin=true")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(Full::default())
        .expect("a request");
    let response = client.send_raw(request).await;
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.expect("an upgrade"));
    io.write_all(b"hello").await.expect("an open stream");
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await.expect("an open stream");
    assert_eq!(bytes, b"hello");
}

/// Notes every connection, makes commands harmless, and lets nobody near nodes.
#[derive(Debug, Default)]
struct Watchman(Mutex<Vec<Value>>);

#[async_trait]
impl Plugin for Watchman {
    fn name(&self) -> &'static str {
        "Watchman"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation != Operation::Connect {
            return Ok(());
        }
        let options = request.object.as_mut().expect("a connection has options");
        let seen = json!({
            "about": format!("{}/{} {}/{}", request.resource.resource, request.subresource,
                request.namespace, request.name),
            "kind": request.kind.kind, "user": request.user.name, "options": options.0.clone(),
        });
        self.0.lock().expect("whole").push(seen);
        if options.0.contains_key("command") {
            options.0.insert("command".to_owned(), json!(["true"]));
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        let is_node = request.resource.resource == "nodes";
        if request.operation == Operation::Connect && is_node {
            let resource = request.resource.group_resource();
            return Err(ApiError::forbidden(&resource, request.name, "not here"));
        }
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn admission_sees_every_connection_with_its_options_and_can_change_or_refuse_it() {
    let watchman = Arc::new(Watchman::default());
    let cluster = cluster_with_plugin(Some(watchman.clone())).await;
    let mut client = cluster.connect_as_admin().await;
    let pod = "/api/v1/namespaces/default/pods/p";
    for (path, expected) in [
        (
            "exec?command=rm&command=-rf&stdin=&stdout=False&tty=1&container=c",
            "POST /exec/default/p/c?input=1&tty=1&command=true auth=false",
        ),
        (
            "attach?stderr=true",
            "POST /attach/default/p/c?error=1 auth=false",
        ),
        (
            "portforward?ports=80,443&ports=22",
            "POST /portForward/default/p?port=80%2C443%2C22 auth=false",
        ),
    ] {
        let (code, text) = client
            .call("POST", &format!("{pod}/{path}"), Value::Null)
            .await;
        assert_eq!((code, text), (200, json!(expected)), "{path}");
    }
    let (code, text) = client
        .call("GET", &format!("{pod}/proxy/a/b/?path=/other"), Value::Null)
        .await;
    assert_eq!(
        (code, text),
        (200, json!("GET /a/b/?path=/other auth=false"))
    );
    let (code, refused) = client
        .call("GET", "/api/v1/nodes/n/proxy/metrics", Value::Null)
        .await;
    assert_eq!(code, 403);
    assert_eq!(refused["message"], "nodes \"n\" is forbidden: not here");
    let services = "/api/v1/namespaces/default/services";
    client
        .call("GET", &format!("{services}/https:s:1/proxy/"), Value::Null)
        .await;
    let seen = std::mem::take(&mut *watchman.0.lock().expect("whole"));
    let about = |about: &str, kind: &str, mut options: Value| {
        options["apiVersion"] = "v1".into();
        options["kind"] = kind.into();
        json!({"about": about, "kind": kind, "user": "admin", "options": options})
    };
    let exec = json!({"stdin": true, "tty": true, "container": "c", "command": ["rm", "-rf"]});
    assert_eq!(
        seen,
        [
            about("pods/exec default/p", "PodExecOptions", exec),
            about(
                "pods/attach default/p",
                "PodAttachOptions",
                json!({"stderr": true})
            ),
            about(
                "pods/portforward default/p",
                "PodPortForwardOptions",
                json!({"ports": [80, 443, 22]})
            ),
            about(
                "pods/proxy default/p",
                "PodProxyOptions",
                json!({"path": "/a/b/"})
            ),
            about(
                "nodes/proxy /n",
                "NodeProxyOptions",
                json!({"path": "/metrics"})
            ),
            about(
                "services/proxy default/https:s:1",
                "ServiceProxyOptions",
                json!({"path": "/"})
            ),
        ]
    );
}

#[tokio::test]
async fn options_of_a_connection_that_mean_nothing_are_refused() {
    let cluster = cluster_with_pod().await;
    let mut client = cluster.connect_as_admin().await;
    let pod = "/api/v1/namespaces/default/pods/p";
    for (path, why) in [
        ("exec?command=ls&dryRun=All", "dryRun is not supported"),
        (
            "portforward?ports=70000",
            "cannot convert to []int32: strconv.ParseUint: parsing \"70000\": value out of range",
        ),
        (
            "portforward?ports=http",
            "cannot convert to []int32: strconv.ParseUint: parsing \"http\": invalid syntax",
        ),
    ] {
        let (code, status) = client
            .call("POST", &format!("{pod}/{path}"), Value::Null)
            .await;
        assert_eq!(
            (code, status["message"].as_str()),
            (400, Some(why)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn who_may_only_read_may_not_exec_over_a_web_socket() {
    let cluster = cluster_with_pod().await;
    let mut admin = cluster.connect_as_admin().await;
    let rules = |verb: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "r"},
            "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": [verb, "get"]}]})
    };
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let roles = format!("{rbac}/clusterroles");
    assert_eq!(admin.call("POST", &roles, rules("get")).await.0, 201);
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}]});
    let bindings = format!("{rbac}/clusterrolebindings");
    assert_eq!(admin.call("POST", &bindings, binding).await.0, 201);
    let path = "/api/v1/namespaces/default/pods/p/exec?command=ls";
    let reader = Some(pki::Subject::new("reader", &[]));
    let mut client = cluster.connect(reader.clone()).await;
    eventually(&mut client, path, 403, "pods \"p\" is forbidden: ").await;
    let roles = format!("{roles}/r");
    assert_eq!(admin.call("PUT", &roles, rules("create")).await.0, 200);
    eventually(&mut client, path, 200, "").await;
}

/// Policies take a moment to arrive.
async fn eventually(client: &mut support::Client, path: &str, wanted: u16, message: &str) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let (code, status) = client.call("GET", path, Value::Null).await;
        let told = status["message"].as_str().unwrap_or_default();
        if code == wanted && told == message {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{code}: {status}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn idle_and_half_open_connections_hurt_nobody() {
    let cluster = Cluster::start(0).await;
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", cluster.port))
            .await
            .expect("a connection");
        if number % 2 == 0 {
            // The first bytes of a handshake that never goes on.
            stream
                .write_all(&[22, 3, 1, 2, 0])
                .await
                .expect("an open connection");
        }
        idle.push(stream);
    }
    let mut client = cluster.connect_as_admin().await;
    assert_eq!(
        client
            .call("GET", "/api/v1/namespaces", Value::Null)
            .await
            .0,
        200
    );
    drop(idle);
}

#[tokio::test]
async fn bodies_beyond_the_limit_and_malformed_ones_get_their_errors() {
    let cluster = Cluster::start(0).await;
    let mut client = cluster.connect_as_admin().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let large = json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(4 * 1024 * 1024)}});
    assert_eq!(client.call("POST", path, large).await.0, 413);
    let mut client = cluster.connect_as_admin().await;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for (content_type, body) in [
        ("application/json", "{".to_owned()),
        ("application/json", format!("{{\"metadata\": {deep}}}")),
        ("application/yaml", "a: [".to_owned()),
        (
            "application/vnd.kubernetes.protobuf",
            "k8s\0\u{7f}".to_owned(),
        ),
        ("application/vnd.kubernetes.protobuf", "nothing".to_owned()),
    ] {
        let request = http::Request::builder()
            .method("POST")
            .uri(path)
            .header("host", "localhost")
            .header("content-type", content_type)
            .body(Full::from(body))
            .expect("a request");
        let (code, status) = read(client.send_raw(request).await).await;
        assert_eq!(
            (code, status["reason"].as_str()),
            (400, Some("BadRequest")),
            "{content_type}: {status}"
        );
    }
}
