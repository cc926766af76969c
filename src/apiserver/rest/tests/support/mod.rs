//! An API server on the in-memory store, with certificates of its own.

#![allow(dead_code, unreachable_pub)] // Each test binary and the example use a part of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::ApiError;
use async_trait::async_trait;
use auth::{
    Authenticator, AuthenticatorChain, Authorizer, AuthorizerChain, Credentials, MastersAuthorizer,
    NodeAuthorizer, RbacAuthorizer, ServiceAccountTokens, TokenIssuers, User,
};
use env::{Rng, Shutdown, ShutdownTrigger, SystemClock, SystemRng, Timestamp};
use kv::{Kv, MemoryKv};
use pki::{
    CertificateAuthority, CertificateInfo, KeyPair, Profile, SigningKey, Subject, SubjectNames,
    encode_pem,
};
use rest::{AnonymousAccess, ApiServer, Config, StoreObjects};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const LIFE: Duration = Duration::from_secs(24 * 3600);

/// Believes what a client's certificate says.
#[derive(Debug)]
struct ByCertificate;

#[async_trait]
impl Authenticator for ByCertificate {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<User>, ApiError> {
        let Some(leaf) = credentials.peer_certificates.first() else {
            return Ok(None);
        };
        let info =
            CertificateInfo::from_der(leaf).map_err(|_unreadable| ApiError::unauthorized())?;
        let groups: Vec<&str> = info
            .subject
            .organizations
            .iter()
            .map(String::as_str)
            .collect();
        Ok(Some(User::named(&info.subject.common_name, &groups)))
    }
}

/// Keys and certificates of one test cluster.
pub struct Pki {
    pub authority: CertificateAuthority,
    rng: Arc<dyn Rng>,
    now: Timestamp,
}

impl Pki {
    pub fn generate() -> Self {
        let (rng, now) = (SystemRng::shared(), SystemClock::shared().now());
        let authority =
            CertificateAuthority::generate("test", now, LIFE, &*rng).expect("an authority");
        Self {
            authority,
            rng,
            now,
        }
    }

    /// A certificate in DER and its key.
    pub fn issue(
        &self,
        subject: &Subject,
        names: &SubjectNames,
        profile: Profile,
    ) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let times = (self.now, LIFE);
        let certificate = self
            .authority
            .issue(
                subject,
                names,
                &key.public_key_info(),
                profile,
                times,
                &*self.rng,
            )
            .expect("a certificate");
        (certificate, key)
    }

    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let names = SubjectNames {
            dns_names: vec!["localhost".into()],
            addresses: vec!["127.0.0.1".parse().expect("an address")],
        };
        let (certificate, key) = self.issue(&Subject::new("server", &[]), &names, Profile::Server);
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from(
                self.authority.certificate_der().to_vec(),
            ))
            .expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .expect("a verifier");
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![CertificateDer::from(certificate)], private_key(&key))
            .expect("a certificate with its key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// A kubeconfig for somebody.
    pub fn write_kubeconfig(&self, path: &Path, port: u16, subject: &Subject) {
        use base64::Engine as _;
        let base64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
        let (certificate, key) = self.issue(subject, &SubjectNames::default(), Profile::Client);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\n\
             clusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:{port}\n    certificate-authority-data: {}\n\
             users:\n- name: u\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            base64(self.authority.to_pem()),
            base64(encode_pem("CERTIFICATE", &certificate)),
            base64(key.to_pem()),
        );
        std::fs::write(path, text).expect("a writable place");
    }
}

pub fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    key.to_private_key_der()
}

/// A server that ends when this is dropped.
pub struct Cluster {
    pub server: ApiServer,
    pub pki: Pki,
    pub port: u16,
    _end: ShutdownTrigger,
}

impl Cluster {
    pub async fn start(port: u16) -> Self {
        Self::start_with(port, None).await
    }

    pub async fn start_with(port: u16, kubelets: Option<Arc<dyn rest::KubeletDialer>>) -> Self {
        Self::start_changed(port, |config| config.kubelets = kubelets).await
    }

    /// A cluster whose configuration is not the common one.
    pub async fn start_changed(port: u16, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_over(port, MemoryKv::new(), change).await
    }

    /// A cluster over a store of the test's own.
    pub async fn start_over(port: u16, kv: Arc<dyn Kv>, change: impl FnOnce(&mut Config)) -> Self {
        let (end, shutdown) = Shutdown::new();
        let objects = StoreObjects::new(kv.clone(), SystemClock::shared());
        let rbac = Arc::new(RbacAuthorizer::default());
        rest::feed_policy(kv.clone(), rbac.clone(), &shutdown)
            .await
            .expect("a policy");
        let authorizers: Vec<Arc<dyn Authorizer>> = vec![
            Arc::new(MastersAuthorizer),
            Arc::new(NodeAuthorizer::new(objects.clone())),
            rbac.clone(),
        ];
        let authorizer: Arc<dyn Authorizer> = Arc::new(AuthorizerChain(authorizers));
        let key = KeyPair::generate().expect("a key");
        let times = (SystemClock::shared(), SystemRng::shared());
        let signing = SigningKey::try_from(&key).expect("a signing key");
        let issuers = TokenIssuers {
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            former_issuers: Vec::new(),
            accepted: vec![signing.verifying_key().clone()],
            signing,
        };
        let tokens = Arc::new(ServiceAccountTokens::new(issuers, objects.clone(), times));
        let context = admission::Context {
            objects,
            rbac: rbac.clone(),
            authorizer: authorizer.clone(),
        };
        let authenticators: Vec<Arc<dyn Authenticator>> =
            vec![Arc::new(ByCertificate), tokens.clone()];
        let mut config = Config {
            kv,
            authenticator: Arc::new(AuthenticatorChain(authenticators)),
            anonymous_access: AnonymousAccess::Refused,
            authorizer,
            rbac: Some(rbac),
            tokens: Some(tokens),
            kubelets: None,
            side_paths: None,
            admission: admission::plugins(&context),
            service_ranges: vec!["10.96.0.0/16".parse().expect("a range")],
            authorities: None,
            clock: SystemClock::shared(),
            rng: SystemRng::shared(),
            living: None,
            advertised: tokio::sync::watch::channel(rest::Advertised {
                address: ([127, 0, 0, 1], port).into(),
                others: Vec::new(),
            })
            .1,
        };
        change(&mut config);
        let server = ApiServer::new(config);
        server.bootstrap().await.expect("a bootstrapped cluster");
        let pki = Pki::generate();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("a bound address").port();
        let (serving, tls) = (server.clone(), pki.server_config());
        env::spawn(async move { serving.serve(listener, tls, shutdown).await });
        Self {
            server,
            pki,
            port,
            _end: end,
        }
    }
}

/// One HTTPS connection.
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<http_body_util::Full<bytes::Bytes>>,
}

impl Cluster {
    /// A connection with a client certificate of `subject`, or with none.
    pub async fn connect(&self, subject: Option<Subject>) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from(
                self.pki.authority.certificate_der().to_vec(),
            ))
            .expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match subject {
            Some(subject) => {
                let (certificate, key) =
                    self.pki
                        .issue(&subject, &SubjectNames::default(), Profile::Client);
                let chain = vec![CertificateDer::from(certificate)];
                builder
                    .with_client_auth_cert(chain, private_key(&key))
                    .expect("a certificate with its key")
            }
            None => builder.with_no_client_auth(),
        };
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("a connection");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, stream).await.expect("a handshake");
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .expect("HTTP");
        env::spawn(connection.with_upgrades());
        Client { sender }
    }

    pub async fn connect_as_admin(&self) -> Client {
        self.connect(Some(Subject::new("admin", &["system:masters"])))
            .await
    }
}

impl Client {
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: serde_json::Value,
    ) -> http::Response<hyper::body::Incoming> {
        self.send_as(method, path, "application/json", body).await
    }

    pub async fn send_as(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: serde_json::Value,
    ) -> http::Response<hyper::body::Incoming> {
        let bytes = if body.is_null() {
            bytes::Bytes::new()
        } else {
            body.to_string().into()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", content_type)
            .body(http_body_util::Full::new(bytes))
            .expect("a request");
        self.send_raw(request).await
    }

    /// A merge patch.
    pub async fn merge(
        &mut self,
        path: &str,
        patch: serde_json::Value,
    ) -> (u16, serde_json::Value) {
        let content_type = "application/merge-patch+json";
        read(self.send_as("PATCH", path, content_type, patch).await).await
    }

    /// Server-side apply, as the manager `test`.
    pub async fn apply(
        &mut self,
        path: &str,
        configuration: serde_json::Value,
    ) -> (u16, serde_json::Value) {
        let path = format!("{path}?fieldManager=test&force=true");
        let content_type = "application/apply-patch+yaml";
        read(
            self.send_as("PATCH", &path, content_type, configuration)
                .await,
        )
        .await
    }

    pub async fn send_raw(
        &mut self,
        request: http::Request<http_body_util::Full<bytes::Bytes>>,
    ) -> http::Response<hyper::body::Incoming> {
        self.sender.send_request(request).await.expect("an answer")
    }

    /// The code and the document of an answer.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: serde_json::Value,
    ) -> (u16, serde_json::Value) {
        read(self.send(method, path, body).await).await
    }
}

pub async fn read(response: http::Response<hyper::body::Incoming>) -> (u16, serde_json::Value) {
    use http_body_util::BodyExt as _;
    let code = response.status().as_u16();
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|_no_json| {
        serde_json::Value::String(String::from_utf8_lossy(&bytes).into_owned())
    });
    (code, value)
}

/// A pod of the namespace `default`, which runs on a node.
pub async fn running_pod(client: &mut Client, name: &str, spec: serde_json::Value) {
    let account = serde_json::json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    client.call("POST", accounts, account).await;
    let pod = serde_json::json!({"metadata": {"name": name}, "spec": spec});
    let pods = "/api/v1/namespaces/default/pods";
    let (code, created) = client.call("POST", pods, pod).await;
    assert_eq!(code, 201, "{created}");
    let status = serde_json::json!({"status": {"phase": "Running", "podIP": "10.1.1.1",
        "podIPs": [{"ip": "10.1.1.1"}]}});
    let (code, patched) = client.merge(&format!("{pods}/{name}/status"), status).await;
    assert_eq!(code, 200, "{patched}");
}
