//! GET requests to containers, for probes and lifecycle hooks: no redirects followed elsewhere, certificates not verified, bodies bounded.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

/// What is read of an answer: bytes.
pub(crate) const BODY_BYTES_MAX: usize = 10 * 1024;
/// Redirects on the same host that are followed.
const REDIRECTS_MAX: usize = 10;

/// An answer with a readable head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: String,
    /// A redirect to another host, which is not followed.
    pub(crate) redirects_away: bool,
}

/// One GET as the pod's spec describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Get {
    /// `pod_ip`: where to connect when the action names no host.
    pub(crate) fn new(
        action: &HTTPGetAction,
        container: &Container,
        pod_ip: &str,
        user_agent: &str,
    ) -> Result<Self, String> {
        let host = action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| pod_ip.to_owned());
        if host.is_empty() {
            return Err("the pod has no address yet".to_owned());
        }
        let path = action.path.clone().unwrap_or_default();
        let mut headers: Vec<(String, String)> = action
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect();
        let has = |headers: &[(String, String)], name: &str| {
            headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        if !has(&headers, "user-agent") {
            headers.push(("User-Agent".to_owned(), user_agent.to_owned()));
        }
        if !has(&headers, "accept") {
            headers.push(("Accept".to_owned(), "*/*".to_owned()));
        }
        // An empty value means: do not send it.
        headers.retain(|(name, value)| {
            !(value.is_empty()
                && (name.eq_ignore_ascii_case("user-agent") || name.eq_ignore_ascii_case("accept")))
        });
        Ok(Self {
            tls: action
                .scheme
                .as_deref()
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host,
            port: resolve_port(&action.port, container)?,
            path: if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            },
            headers,
        })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(crate) fn url(&self) -> String {
        format!(
            "{}://{}{}",
            if self.tls { "https" } else { "http" },
            self.authority(),
            self.path
        )
    }
}

/// The number of a port that a probe names by number or by name.
pub(crate) fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => name.parse().ok().or_else(|| {
            let ports = container.ports.iter().flatten();
            ports
                .into_iter()
                .find(|port| port.name.as_deref() == Some(name))
                .map(|port| port.container_port)
        }),
    };
    let number = number.ok_or_else(|| match port {
        IntOrString::String(name) => format!("couldn't find port: {name}"),
        IntOrString::Int(_) => "invalid port number".to_owned(),
    })?;
    u16::try_from(number)
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

/// Sends the request; redirects on the same host are followed. The caller sets the time limit.
pub(crate) async fn get(mut request: Get) -> Result<Answer, String> {
    for _ in 0..=REDIRECTS_MAX {
        let (answer, location) = send(&request)
            .await
            .map_err(|why| format!("Get {:?}: {why}", request.url()))?;
        let Some(location) = location.filter(|_| (300..400).contains(&answer.code)) else {
            return Ok(answer);
        };
        match follow(&request, &location) {
            Some(next) => request = next,
            None => {
                return Ok(Answer {
                    redirects_away: true,
                    ..answer
                });
            }
        }
    }
    Err(format!(
        "Get {:?}: stopped after {REDIRECTS_MAX} redirects",
        request.url()
    ))
}

/// The next request, if the redirect stays on the host.
fn follow(request: &Get, location: &str) -> Option<Get> {
    let uri: http::Uri = location.parse().ok()?;
    let path = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
        .to_owned();
    match uri.host() {
        None => Some(Get {
            path,
            ..request.clone()
        }),
        Some(host) if host.trim_matches(['[', ']']) == request.host => {
            let tls = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
            Some(Get {
                tls,
                port,
                path,
                ..request.clone()
            })
        }
        Some(_) => None,
    }
}

async fn send(request: &Get) -> Result<(Answer, Option<String>), String> {
    let stream = TcpStream::connect((request.host.as_str(), request.port))
        .await
        .map_err(|error| format!("dial tcp {}: {}", request.authority(), describe(&error)))?;
    if request.tls {
        let name = ServerName::try_from(request.host.clone()).map_err(|error| error.to_string())?;
        let stream = tls()
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())?;
        exchange(request, stream).await
    } else {
        exchange(request, stream).await
    }
}

/// The operating system's words as Go prints them.
pub(crate) fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

async fn exchange<S>(request: &Get, stream: S) -> Result<(Answer, Option<String>), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let mut built = http::Request::builder()
        .method("GET")
        .uri(&request.path)
        .header("Connection", "close");
    if !request
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        built = built.header("Host", request.authority());
    }
    for (name, value) in &request.headers {
        built = built.header(name, value);
    }
    let built = built
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async move {
        let response = sender.send_request(built).await.map_err(text)?;
        let code = response.status().as_u16();
        let location = response
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // A body that is longer counts as read.
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
            .collect()
            .await;
        let body = body
            .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
            .unwrap_or_default();
        Ok((
            Answer {
                code,
                body,
                redirects_away: false,
            },
            location,
        ))
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended.map_err(text)?;
            answer.await
        }
    }
}

fn tls() -> tokio_rustls::TlsConnector {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Arc::new(config)
    });
    tokio_rustls::TlsConnector::from(Arc::clone(config))
}

/// Probes ask whether a container answers, not who it is: upstream verifies no certificate here either.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
