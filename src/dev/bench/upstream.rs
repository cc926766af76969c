//! Upstream's etcd and kube-apiserver, durable as etcd comes, on loopback.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use env::{SystemClock, SystemRng};
use kube_client::{ClientCertificate, Credentials, Dialer, HttpConfig, Trust};
use pki::{CertificateAuthority, KeyPair, Profile, Subject, SubjectNames, encode_pem};

use super::load::Connection;

const PORT: &str = "26543";
const ETCD: &str = "http://127.0.0.1:26544";
const ETCD_PEERS: &str = "http://127.0.0.1:26545";
const LIFE: Duration = Duration::from_secs(24 * 3600);
const START_LIMIT: Duration = Duration::from_secs(90);
/// The Endpoints of the API may not hold a loopback address; nothing is ever sent to this one (RFC 5737).
const ADVERTISED: &str = "192.0.2.1";

pub(crate) struct Upstream {
    config: HttpConfig,
    processes: Vec<Child>,
}

impl Upstream {
    /// Starts both in `folder` and waits until they are ready.
    pub(crate) async fn start(binaries: &Path, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let config = credentials(folder)?;
        let mut upstream = Self {
            config,
            processes: Vec::new(),
        };
        upstream.processes.push(launch(
            &binaries.join("etcd"),
            &folder.join("etcd.log"),
            &etcd(folder),
        )?);
        upstream.processes.push(launch(
            &binaries.join("kube-apiserver"),
            &folder.join("apiserver.log"),
            &api_server(folder),
        )?);
        let connection = upstream.connect()?;
        let begun = Instant::now();
        // The namespace that the objects are made in is the last thing that a new server makes.
        while connection.get("/readyz").await.is_err()
            || connection.get("/api/v1/namespaces/default").await.is_err()
        {
            if begun.elapsed() > START_LIMIT {
                let log = fs::read_to_string(folder.join("apiserver.log")).unwrap_or_default();
                bail!(
                    "kube-apiserver is not ready in {START_LIMIT:?}: {}",
                    log.lines().next_back().unwrap_or_default()
                );
            }
            env::sleep(Duration::from_millis(100)).await;
        }
        Ok(upstream)
    }

    pub(crate) fn connect(&self) -> anyhow::Result<Connection> {
        Connection::new(&self.config)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Writes keys and certificates to `folder`; returns how the administrator connects.
fn credentials(folder: &Path) -> anyhow::Result<HttpConfig> {
    let (now, rng) = (SystemClock::shared().now(), SystemRng::shared());
    let authority = CertificateAuthority::generate("upstream", now, LIFE, &*rng)?;
    fs::write(
        folder.join("ca.crt"),
        encode_pem("CERTIFICATE", authority.certificate_der()),
    )?;
    let issue = |subject: &Subject,
                 names: &SubjectNames,
                 profile: Profile|
     -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = authority.issue(
            subject,
            names,
            &key.public_key_info(),
            profile,
            (now, LIFE),
            &*rng,
        )?;
        Ok((encode_pem("CERTIFICATE", &certificate), key.to_pem()))
    };
    let names = SubjectNames {
        dns_names: vec!["localhost".to_owned()],
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
    };
    let (certificate, key) = issue(
        &Subject::new("kube-apiserver", &[]),
        &names,
        Profile::Server,
    )?;
    fs::write(folder.join("server.crt"), certificate)?;
    fs::write(folder.join("server.key"), key)?;
    let none = SubjectNames {
        dns_names: Vec::new(),
        addresses: Vec::new(),
    };
    let (certificate, key) = issue(
        &Subject::new("admin", &["system:masters"]),
        &none,
        Profile::Client,
    )?;
    Ok(HttpConfig {
        server: format!("https://127.0.0.1:{PORT}"),
        trust: Trust::Authorities(
            encode_pem("CERTIFICATE", authority.certificate_der()).into_bytes(),
        ),
        server_name: None,
        credentials: Credentials::Certificate(ClientCertificate::from_pem(
            certificate.as_bytes(),
            key.as_bytes(),
        )?),
        user_agent: "combo-bench".to_owned(),
        route: Arc::new(Dialer::default()),
        clock: SystemClock::shared(),
    })
}

fn etcd(folder: &Path) -> Vec<String> {
    let cluster = format!("bench={ETCD_PEERS}");
    words(&[
        ("--name", "bench"),
        ("--data-dir", &path(folder, "etcd")),
        ("--log-level", "warn"),
        ("--listen-client-urls", ETCD),
        ("--advertise-client-urls", ETCD),
        ("--listen-peer-urls", ETCD_PEERS),
        ("--initial-advertise-peer-urls", ETCD_PEERS),
        ("--initial-cluster", &cluster),
    ])
}

fn api_server(folder: &Path) -> Vec<String> {
    words(&[
        ("--etcd-servers", ETCD),
        ("--bind-address", "127.0.0.1"),
        ("--secure-port", PORT),
        ("--advertise-address", ADVERTISED),
        ("--tls-cert-file", &path(folder, "server.crt")),
        ("--tls-private-key-file", &path(folder, "server.key")),
        ("--client-ca-file", &path(folder, "ca.crt")),
        ("--authorization-mode", "Node,RBAC"),
        ("--enable-admission-plugins", "NodeRestriction"),
        ("--disable-admission-plugins", "ServiceAccount"),
        (
            "--service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        ),
        ("--service-account-key-file", &path(folder, "server.crt")),
        (
            "--service-account-signing-key-file",
            &path(folder, "server.key"),
        ),
        ("--service-cluster-ip-range", "10.96.0.0/16"),
    ])
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn words(flags: &[(&str, &str)]) -> Vec<String> {
    flags
        .iter()
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect()
}

fn launch(binary: &Path, log: &Path, arguments: &[String]) -> anyhow::Result<Child> {
    let log = File::create(log)?;
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command
        .spawn()
        .with_context(|| format!("start {}", binary.display()))
}
