//! Connections: TLS, who asks, whether they may, and then the answer.

use std::sync::Arc;
use std::time::Duration;

use cri::SharedImages;
use env::Shutdown;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, ServerConfig};
use serde_json::json;
use serving::{Http, Limits, Service};
use streams::Transport;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::kubelet::Kubelet;
use crate::server::access::{Identity, KubeletAuthorizer};
use crate::server::answer::{Answer, json as json_answer, text, with_type};
use crate::server::route::{Route, needed, parameters};
use crate::server::{logs, metrics, node_api, pods, registry, stats, streaming};

/// Nothing under way is waited for at the end: streams last as long as their users like.
const DRAIN_TIME_MAX: Duration = Duration::ZERO;
const LIMITS: Limits = Limits {
    connections_max: 512,
    drain_time_max: DRAIN_TIME_MAX,
};
/// Commands on the node.
const NODE_LIMITS: Limits = Limits {
    connections_max: 64,
    drain_time_max: DRAIN_TIME_MAX,
};
const HTTP: Http = Http {
    header_time_max: Duration::from_secs(30),
    http1_buffer_bytes_max: 64 << 10,
    http2: None,
    drain_time_max: DRAIN_TIME_MAX,
};

/// What the server needs beside the kubelet.
pub struct ServerParts {
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// Who signs client certificates, and lets in who has none; `None`: only tokens count.
    pub client_authorities: Option<Arc<dyn ClientCertVerifier>>,
    pub authorizer: Arc<dyn KubeletAuthorizer>,
    /// What other nodes may read; `None`: nothing.
    pub shared_images: Option<Arc<dyn SharedImages>>,
}

/// Serves one kubelet. Cloning it shares everything.
#[derive(Clone)]
pub struct KubeletServer {
    kubelet: Kubelet,
    tls: Arc<ServerConfig>,
    authorizer: Arc<dyn KubeletAuthorizer>,
    shared_images: Option<Arc<dyn SharedImages>>,
}

impl KubeletServer {
    pub fn new(kubelet: Kubelet, parts: ServerParts) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match parts.client_authorities {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut tls = builder.with_cert_resolver(parts.certificate);
        // Streams are upgraded connections, which HTTP/2 has not.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            kubelet,
            tls: Arc::new(tls),
            authorizer: parts.authorizer,
            shared_images: parts.shared_images,
        })
    }

    /// Serves until asked to end.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) {
        let one = |stream| {
            let (server, shutdown) = (self.clone(), shutdown.clone());
            async move { server.serve_tls(stream, &shutdown).await }
        };
        serving::accept_each(listener, "the kubelet", LIMITS, &shutdown, one).await;
    }

    /// Serves the node's pods on a socket that root can open, whether any server can be reached or not; until asked to end.
    pub async fn run_on_node(self, listener: UnixListener, shutdown: Shutdown) {
        let one = |stream| {
            let (server, shutdown) = (self.clone(), shutdown.clone());
            async move { server.serve_on_node(stream, &shutdown).await }
        };
        serving::accept_each(listener, "the node's socket", NODE_LIMITS, &shutdown, one).await;
    }

    async fn serve_on_node(&self, stream: UnixStream, shutdown: &Shutdown) {
        // The socket's mode says the same; a descriptor may have been handed on.
        let is_root = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0);
        if !is_root {
            return tracing::warn!("somebody other than root asked at the node's socket");
        }
        let kubelet = self.kubelet.clone();
        let service = serving::service(move |request| {
            let kubelet = kubelet.clone();
            async move { node_api::answer(&kubelet, request).await }
        });
        serve_http(stream, service, shutdown).await;
    }

    /// One connection that begins with a TLS handshake.
    pub async fn serve_tls(&self, stream: impl Transport, shutdown: &Shutdown) {
        let stream = match serving::handshake(Arc::clone(&self.tls), stream).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(error, "nobody is served by the kubelet"),
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let who = certificates
            .and_then(|chain| chain.first())
            .and_then(|leaf| Identity::from_certificate(leaf));
        self.serve(stream, who, shutdown).await;
    }

    /// One connection of HTTP/1.1 whose peer is known already (in process, or through a tunnel).
    pub async fn serve(&self, stream: impl Transport, who: Option<Identity>, shutdown: &Shutdown) {
        let server = self.clone();
        let service = serving::service(move |request| {
            let (server, who) = (server.clone(), who.clone());
            async move { server.answer(who, request).await }
        });
        serve_http(stream, service, shutdown).await;
    }

    async fn answer(&self, who: Option<Identity>, request: Request<Incoming>) -> Answer {
        let Some(who) = self.identify(who, &request).await else {
            return text(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        if registry::is_of_registry(request.uri().path()) {
            return self.share_images(&who, &request).await;
        }
        let config = &self.kubelet.services.config;
        let rights = needed(&config.node_name, request.method(), request.uri().path());
        for right in &rights {
            if self.authorizer.is_allowed(&who, right).await {
                return self.route(request).await;
            }
        }
        let right = rights.last().expect("every path needs a right");
        let message = format!(
            "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])",
            who.user,
            right.verb,
            rights
                .iter()
                .map(|right| right.subresource)
                .collect::<Vec<_>>()
                .join(" ")
        );
        text(StatusCode::FORBIDDEN, message)
    }

    /// Who may is decided here: nodes must get images also while no server answers.
    async fn share_images(&self, who: &Identity, request: &Request<Incoming>) -> Answer {
        let (method, uri) = (request.method(), request.uri());
        let query = parameters(uri.query().unwrap_or_default());
        registry::answer(
            self.shared_images.as_deref(),
            who,
            method,
            uri.path(),
            &query,
        )
        .await
    }

    async fn identify(
        &self,
        who: Option<Identity>,
        request: &Request<Incoming>,
    ) -> Option<Identity> {
        if who.is_some() {
            return who;
        }
        let header = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        match header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        {
            Some((_, token)) => self.authorizer.authenticate(token.trim()).await,
            None => None,
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let Some(route) = Route::parse(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "404 page not found");
        };
        let query = parameters(request.uri().query().unwrap_or_default());
        let kubelet = &self.kubelet;
        let failed = |why: String| text(StatusCode::INTERNAL_SERVER_ERROR, why);
        let plain = |body: String| {
            with_type(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                body.into_bytes(),
            )
        };
        match route {
            Route::Health => text(StatusCode::OK, "ok"),
            Route::Pods | Route::RunningPods => json_answer(&pods::list(kubelet)),
            Route::ContainerLogs(path) => logs::container_logs(kubelet, &path, &query).await,
            Route::Exec(path) => streaming::exec(kubelet, &path, &query, request).await,
            Route::Attach(path) => streaming::attach(kubelet, &path, &query, request).await,
            Route::PortForward(path) => {
                streaming::port_forward(kubelet, &path, &query, request).await
            }
            Route::Run(path) => streaming::run(kubelet, &path, &query).await,
            Route::StatsSummary => stats::summary(kubelet)
                .await
                .map_or_else(failed, |summary| json_answer(&summary)),
            Route::Metrics => plain(metrics::own(kubelet)),
            Route::ResourceMetrics | Route::ContainerMetrics => {
                metrics::resources(kubelet).await.map_or_else(failed, plain)
            }
            Route::ProbeMetrics => metrics::probes(kubelet).await.map_or_else(failed, plain),
            Route::Configz => json_answer(&self.configz()),
            Route::Refused(why) => text(StatusCode::NOT_FOUND, why),
        }
    }

    fn configz(&self) -> serde_json::Value {
        let config = &self.kubelet.services.config;
        json!({"kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": config.listen.ip().to_string(),
            "port": config.listen.port(),
            "clusterDomain": config.cluster_domain,
            "clusterDNS": config.cluster_dns,
            "maxPods": config.pods_max,
            "staticPodPath": config.manifests_directory,
            "nodeStatusReportFrequency": format!("{}s", config.node_status_every.as_secs()),
            "nodeLeaseDurationSeconds": config.lease_duration.as_secs(),
            "imageGCHighThresholdPercent": config.image_gc.high_percent,
            "imageGCLowThresholdPercent": config.image_gc.low_percent
        }})
    }
}

async fn serve_http(stream: impl Transport, service: Service, shutdown: &Shutdown) {
    if let Err(error) = serving::serve_http(stream, &HTTP, service, shutdown).await {
        tracing::debug!(error, "a connection to the kubelet ended with an error");
    }
}
