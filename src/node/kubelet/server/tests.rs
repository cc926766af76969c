//! The server through real HTTP on connections in memory.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cri::{SharedContent, SharedImages, SharedManifest};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use streams::handshake::PortForwardProtocol;
use streams::handshake::{Encoding, RemoteCommandProtocol, RemoteCommandVersion, UpgradeRequest};
use streams::port_forward::PortForwardClient;
use streams::remote_command::{self, WantedStreams};
use tokio::io::AsyncReadExt;

use super::{Attributes, Identity, KubeletAuthorizer, KubeletServer, ServerParts};
use crate::worker::tests::World;

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// Administrators may everything, others only look at pods.
struct Rules;

#[async_trait]
impl KubeletAuthorizer for Rules {
    async fn authenticate(&self, token: &str) -> Option<Identity> {
        (token == "good").then(|| Identity {
            user: "viewer".to_owned(),
            groups: Vec::new(),
        })
    }

    async fn is_allowed(&self, who: &Identity, attributes: &Attributes) -> bool {
        who.user == "admin" || attributes.subresource == "pods"
    }
}

struct Connection(hyper::client::conn::http1::SendRequest<Empty<Bytes>>);

async fn connect(world: &World, who: Option<&str>) -> Connection {
    connect_sharing(world, who, None).await
}

/// The same where the node gives these images to others.
async fn connect_sharing(
    world: &World,
    who: Option<&str>,
    shared_images: Option<Arc<dyn SharedImages>>,
) -> Connection {
    let parts = ServerParts {
        certificate: Arc::new(NoCertificate),
        client_authorities: None,
        authorizer: Arc::new(Rules),
        shared_images,
    };
    let server = KubeletServer::new(world.kubelet.clone(), parts).unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let who = who.map(|user| Identity {
        user: user.to_owned(),
        groups: user
            .starts_with("system:node:")
            .then(|| "system:nodes".to_owned())
            .into_iter()
            .collect(),
    });
    env::spawn(async move {
        let (_end, shutdown) = env::Shutdown::new();
        server.serve(theirs, who, &shutdown).await;
    });
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours))
        .await
        .unwrap();
    env::spawn(connection.with_upgrades());
    Connection(sender)
}

impl Connection {
    async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = http::Request::get(path).header("host", "n");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .0
            .send_request(request.body(Empty::new()).unwrap())
            .await
            .unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }
}

async fn running_pod(world: &World) -> String {
    let uid = world
        .create(
            "p",
            json!({"containers": [{"name": "app", "image": "busybox"}]}),
        )
        .await;
    world
        .until("p", |pod| pod["status"]["phase"] == "Running")
        .await;
    uid
}

#[tokio::test]
async fn nobody_is_answered_without_a_name_and_a_right() {
    let world = World::new();
    assert_eq!(connect(&world, None).await.get("/pods", &[]).await.0, 401);
    assert_eq!(
        connect(&world, None)
            .await
            .get("/pods", &[("authorization", "Bearer bad")])
            .await
            .0,
        401
    );
    assert_eq!(
        connect(&world, None)
            .await
            .get("/pods", &[("authorization", "Bearer good")])
            .await
            .0,
        200
    );
    let (code, text) = connect(&world, Some("viewer"))
        .await
        .get("/run/d/p/app?cmd=x", &[])
        .await;
    assert_eq!(
        (code, text.as_str()),
        (
            403,
            "Forbidden (user=viewer, verb=get, resource=nodes, subresource(s)=[proxy])"
        )
    );
}

#[tokio::test]
async fn logs_are_read_by_tail_previous_and_while_they_grow() {
    let world = World::new();
    let uid = running_pod(&world).await;
    let directory = world
        .kubelet
        .services
        .config
        .pod_log_directory("d", "p", &uid)
        .join("app");
    std::fs::write(
        directory.join("0.log"),
        "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stdout F two\n",
    )
    .unwrap();
    let mut connection = connect(&world, Some("admin")).await;
    assert_eq!(
        connection
            .get("/containerLogs/d/p/app?tailLines=1", &[])
            .await,
        (200, "two\n".to_owned())
    );
    assert_eq!(
        connection
            .get("/containerLogs/d/p/app?previous=true", &[])
            .await
            .0,
        400
    );
    assert_eq!(connection.get("/containerLogs/d/p/none", &[]).await.0, 404);
    assert_eq!(
        connection
            .get("/containerLogs/d/p/app?tailLines=-1", &[])
            .await
            .0,
        400
    );
    let mut following = connect(&world, Some("admin")).await;
    let (answer, ()) = tokio::join!(
        following.get("/containerLogs/d/p/app?follow=true", &[]),
        async {
            world.runtime.exit(&uid, "app", 1);
        }
    );
    assert_eq!(answer, (200, "one\ntwo\n".to_owned()));
    world
        .until("p", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    assert_eq!(
        connection
            .get("/containerLogs/d/p/app?previous=true", &[])
            .await,
        (200, "one\ntwo\n".to_owned())
    );
}

async fn exec(
    world: &World,
    request: UpgradeRequest,
    protocol: RemoteCommandProtocol,
) -> (String, Value) {
    let mut connection = connect(world, Some("admin")).await;
    let mut built =
        http::Request::get("/exec/d/p/app?command=say&output=1&error=1").header("host", "n");
    built.headers_mut().unwrap().extend(request.headers.clone());
    let response = connection
        .0
        .send_request(built.body(Empty::new()).unwrap())
        .await
        .unwrap();
    request.verify(&response).unwrap();
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let wanted = WantedStreams {
        stdout: true,
        stderr: true,
        ..WantedStreams::default()
    };
    let client = remote_command::connect(upgraded, protocol, wanted, None)
        .await
        .unwrap();
    let mut output = String::new();
    client
        .stdout
        .unwrap()
        .read_to_string(&mut output)
        .await
        .unwrap();
    let outcome = client.outcome.read().await.unwrap();
    (output, serde_json::from_slice(&outcome).unwrap())
}

#[tokio::test]
async fn a_command_tells_its_output_and_its_exit_code_over_web_socket_and_spdy() {
    let world = World::new();
    running_pod(&world).await;
    world.runtime.on_exec(Arc::new(|_, command| {
        assert_eq!(command, ["say"]);
        Ok(cri::ExecOutput {
            stdout: b"hello".to_vec(),
            exit_code: 3,
            ..Default::default()
        })
    }));
    let web_socket = UpgradeRequest::web_socket(&["v5.channel.k8s.io"]);
    let spdy = UpgradeRequest::spdy(&["v4.channel.k8s.io"]);
    let ways = [
        (
            web_socket,
            RemoteCommandProtocol::WebSocket(RemoteCommandVersion::V5, Encoding::Binary),
        ),
        (spdy, RemoteCommandProtocol::Spdy(RemoteCommandVersion::V4)),
    ];
    for (request, protocol) in ways {
        let (output, outcome) = exec(&world, request, protocol).await;
        assert_eq!(output, "hello");
        assert_eq!(outcome["reason"], "NonZeroExitCode");
        assert_eq!(
            outcome["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "3"})
        );
    }
}

#[tokio::test]
async fn usage_and_pods_are_told() {
    let world = World::new();
    running_pod(&world).await;
    let mut connection = connect(&world, Some("admin")).await;
    let (_, pods) = connection.get("/pods", &[]).await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(pods["items"][0]["status"]["phase"], "Running");
    let (_, summary) = connection.get("/stats/summary", &[]).await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["pods"][0]["podRef"]["name"], "p");
    let (_, metrics) = connection.get("/metrics/resource", &[]).await;
    assert!(metrics.contains("pod_memory_working_set_bytes{namespace=\"d\",pod=\"p\"} 0"));
    assert_eq!(connection.get("/logs/", &[]).await.0, 404);
}

#[tokio::test]
async fn a_forwarded_port_ends_when_the_pod_closes_it() {
    let world = World::new();
    running_pod(&world).await;
    let mut connection = connect(&world, Some("admin")).await;
    let request = UpgradeRequest::web_socket(&[streams::handshake::TUNNELLED_PORT_FORWARD]);
    let mut built = http::Request::get("/portForward/d/p").header("host", "n");
    built.headers_mut().unwrap().extend(request.headers.clone());
    let response = connection
        .0
        .send_request(built.body(Empty::new()).unwrap())
        .await
        .unwrap();
    request.verify(&response).unwrap();
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let client = PortForwardClient::new(upgraded, PortForwardProtocol::SpdyInWebSocket)
        .await
        .unwrap();
    let (mut reader, _writer, error) = client.open(80).await.unwrap().into_parts();
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    assert!(received.is_empty());
    drop(error);
    let calls = world.runtime.take_calls();
    assert!(calls.iter().any(|call| call.method == "port_forward"));
}

/// One image whose manifest is `m` and whose only content is this crate's own description.
struct OneImage;

#[async_trait]
impl SharedImages for OneImage {
    async fn manifest(&self, image: &str) -> cri::Result<Option<SharedManifest>> {
        Ok((image == "r.test/a/b:1").then(|| SharedManifest {
            digest: "sha256:m".to_owned(),
            media_type: "application/x-manifest".to_owned(),
            document: b"m".to_vec(),
        }))
    }

    async fn content(&self, digest: &str) -> cri::Result<Option<SharedContent>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let file = std::fs::File::open(path).expect("a file");
        let size_bytes = file.metadata().expect("its size").len();
        Ok((digest == "sha256:c").then_some(SharedContent { size_bytes, file }))
    }
}

#[tokio::test]
async fn nodes_read_images_of_each_other_where_they_are_shared_and_nobody_else_does() {
    let world = World::new();
    let get = async |who, is_shared: bool, path: &str| {
        let images = is_shared.then(|| Arc::new(OneImage) as Arc<dyn SharedImages>);
        let mut connection = connect_sharing(&world, who, images).await;
        connection.get(path, &[]).await
    };
    let node = Some("system:node:n");
    let manifest = "/v2/a/b/manifests/1?ns=r.test";
    assert_eq!(get(node, true, manifest).await, (200, "m".to_owned()));
    let (code, told) = get(node, false, manifest).await;
    assert!(
        code == 404 && told.contains("--embedded-registry"),
        "{told}"
    );
    assert_eq!(get(None, true, manifest).await.0, 401);
    for who in ["viewer", "admin"] {
        assert_eq!(get(Some(who), true, manifest).await.0, 403, "{who}");
    }
    let (code, content) = get(node, true, "/v2/a/b/blobs/sha256:c?ns=r.test").await;
    assert!(code == 200 && content.contains("kubelet"), "{content}");
    for (path, expected) in [
        ("/v2/", 200),
        ("/v2/a/b/manifests/1", 400),
        ("/v2/a/b/manifests/2?ns=r.test", 404),
        ("/v2/a/b/blobs/sha256:d?ns=r.test", 404),
        ("/v2/_catalog", 404),
    ] {
        assert_eq!(get(node, true, path).await.0, expected, "{path}");
    }
}
