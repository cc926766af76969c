//! Logs and upgraded streams pass through to the kubelet and back; idle and broken connections hurt nobody.

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rest::{ByteStream, DialError, KubeletAddress, KubeletDialer};
use serde_json::{Value, json};
use support::{Cluster, read};
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
    let cluster = Cluster::start_with(0, Some(Arc::new(Echo))).await;
    let mut client = cluster.connect_as_admin().await;
    let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.8.7"}]}});
    assert_eq!(client.call("POST", "/api/v1/nodes", node).await.0, 201);
    let account = json!({"metadata": {"name": "default"}});
    client
        .call(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            account,
        )
        .await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    let (code, created) = client
        .call("POST", "/api/v1/namespaces/default/pods", pod)
        .await;
    assert_eq!(code, 201, "{created}");
    let patch = json!({"status": {"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}]}});
    let path = "/api/v1/namespaces/default/pods/p/status";
    let patched = read(
        client
            .send_as("PATCH", path, "application/merge-patch+json", patch)
            .await,
    )
    .await;
    assert_eq!(patched.0, 200, "{}", patched.1);
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
