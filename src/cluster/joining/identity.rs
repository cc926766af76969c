//! What an agent keeps of its joining: its key, its certificates, whom it trusts, and the cluster's settings. All in one folder, each file
//! written whole or not at all.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use env::Timestamp;
use linux::AtomicFile;
use pki::{CertificateInfo, CertificateRequest, KeyPair, Subject, SubjectNames, decode_pem};

use crate::check::{network_subject, node_subject};
use crate::protocol::{ClusterSettings, JoinAnswer, JoinRequest};

const KEY_FILE: &str = "node.key";
const CLIENT_FILE: &str = "client-kubelet.crt";
const SERVING_FILE: &str = "serving-kubelet.crt";
const NETWORK_FILE: &str = "client-network.crt";
const SERVER_AUTHORITIES_FILE: &str = "server-ca.crt";
const CLIENT_AUTHORITIES_FILE: &str = "client-ca.crt";
const SETTINGS_FILE: &str = "cluster.json";
/// Clocks of servers and nodes may differ by so much.
const LIFE_TOLERANCE: Duration = Duration::from_hours(24);
/// Certificates are renewed when a third of their life is left.
const RENEW_AT_LEFT: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: linux::Error },
    #[error("the node's key {} is damaged; remove it and join again with a token and --replace", path.display())]
    Key { path: PathBuf, source: pki::Error },
    #[error("a certificate request cannot be made")]
    Request(#[source] pki::Error),
    #[error("the server's answer holds {0} that cannot be used")]
    Answer(&'static str),
}

/// The folder with the node's identity.
#[derive(Clone, Debug)]
pub struct IdentityFolder(PathBuf);

/// A node that has joined.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    pub node: String,
    pub key: KeyPair,
    /// Chains in PEM, leaf first.
    pub client_certificate: String,
    pub serving_certificate: String,
    pub network_certificate: String,
    pub server_authorities: String,
    pub client_authorities: String,
    pub settings: ClusterSettings,
}

impl IdentityFolder {
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The node's key, made at the first call and kept.
    pub fn key(&self) -> Result<KeyPair, IdentityError> {
        if let Some(pem) = self.read(KEY_FILE)? {
            let path = self.0.join(KEY_FILE);
            return KeyPair::from_pem(&pem).map_err(|source| IdentityError::Key { path, source });
        }
        let key = KeyPair::generate().map_err(IdentityError::Request)?;
        self.write(KEY_FILE, &key.to_pem())?;
        Ok(key)
    }

    /// What the last joining of `node` brought; `None` if it has not joined, or a power cut or another hand left less than all of it:
    /// then it joins again with the key it has.
    pub fn load(&self, node: &str) -> Result<Option<NodeIdentity>, IdentityError> {
        let files = [
            CLIENT_FILE,
            SERVING_FILE,
            NETWORK_FILE,
            SERVER_AUTHORITIES_FILE,
            CLIENT_AUTHORITIES_FILE,
            SETTINGS_FILE,
        ];
        let mut texts = Vec::with_capacity(files.len());
        for file in files {
            match self.read(file)? {
                Some(text) => texts.push(text),
                None => return Ok(None),
            }
        }
        let Ok([client, serving, network, servers, clients, settings]) =
            <[String; 6]>::try_from(texts)
        else {
            return Ok(None);
        };
        let key = self.key()?;
        let own = node_subject(node);
        let whole = belongs(&client, &own, &key)
            && belongs(&serving, &own, &key)
            && belongs(&network, &network_subject(), &key);
        let settings = serde_json::from_str(&settings).ok();
        let (true, Some(settings)) = (whole, settings) else {
            tracing::warn!(folder = %self.0.display(), "what the node kept of its joining is of another node or damaged");
            return Ok(None);
        };
        Ok(Some(NodeIdentity {
            node: node.to_owned(),
            key,
            client_certificate: client,
            serving_certificate: serving,
            network_certificate: network,
            server_authorities: servers,
            client_authorities: clients,
            settings,
        }))
    }

    /// Checks what a server answered and keeps it.
    pub fn keep(&self, node: &str, answer: &JoinAnswer) -> Result<NodeIdentity, IdentityError> {
        let key = self.key()?;
        let (own, network) = (node_subject(node), network_subject());
        for (certificate, subject, what) in [
            (&answer.client_certificate, &own, "a client certificate"),
            (&answer.serving_certificate, &own, "a serving certificate"),
            (
                &answer.network_certificate,
                &network,
                "a certificate for the network",
            ),
        ] {
            if !belongs(certificate, subject, &key) {
                return Err(IdentityError::Answer(what));
            }
        }
        for authorities in [&answer.server_authorities, &answer.client_authorities] {
            if decode_pem("CERTIFICATE", authorities).is_empty() {
                return Err(IdentityError::Answer("authorities"));
            }
        }
        let settings = serde_json::to_string_pretty(&answer.settings)
            .map_err(|_unwritable| IdentityError::Answer("settings"))?;
        self.write(SERVER_AUTHORITIES_FILE, &answer.server_authorities)?;
        self.write(CLIENT_AUTHORITIES_FILE, &answer.client_authorities)?;
        self.write(SETTINGS_FILE, &settings)?;
        self.write(SERVING_FILE, &answer.serving_certificate)?;
        self.write(NETWORK_FILE, &answer.network_certificate)?;
        self.write(CLIENT_FILE, &answer.client_certificate)?;
        Ok(NodeIdentity {
            node: node.to_owned(),
            key,
            client_certificate: answer.client_certificate.clone(),
            serving_certificate: answer.serving_certificate.clone(),
            network_certificate: answer.network_certificate.clone(),
            server_authorities: answer.server_authorities.clone(),
            client_authorities: answer.client_authorities.clone(),
            settings: answer.settings.clone(),
        })
    }

    fn read(&self, file: &str) -> Result<Option<String>, IdentityError> {
        let path = self.0.join(file);
        match std::fs::read_to_string(&path) {
            // A file of no bytes is what a power cut leaves of one that was not synchronised.
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Read { path, source }),
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), IdentityError> {
        let path = self.0.join(file);
        AtomicFile::private(&path)
            .write(text.as_bytes())
            .map_err(|source| IdentityError::Write { path, source })
    }
}

impl NodeIdentity {
    /// When the certificates are to be renewed: with a third of their life left.
    pub fn renew_at(&self) -> Timestamp {
        // A certificate begins before its issue, so its own dates do not tell how long it was meant to live.
        let left = Duration::from_secs(self.settings.certificate_seconds) / RENEW_AT_LEFT;
        let chains = [&self.client_certificate, &self.serving_certificate];
        let ends = chains.iter().filter_map(|chain| leaf(chain));
        let end = ends.map(|info| info.not_after).min();
        end.map_or(Timestamp::from_unix_seconds(0), |end| {
            end.saturating_sub(left)
        })
    }

    /// Whether the kubelet's certificate is made out to this address.
    pub fn serves(&self, address: IpAddr) -> bool {
        leaf(&self.serving_certificate).is_some_and(|info| info.addresses.contains(&address))
    }

    /// How long to wait before renewing; nothing if it is time, or a certificate has not begun or lives longer than any that is made
    /// now, since a clock was wrong when it was made.
    pub fn renew_after(&self, now: Timestamp) -> Duration {
        let longest = Duration::from_secs(self.settings.certificate_seconds) + LIFE_TOLERANCE;
        let chains = [&self.client_certificate, &self.serving_certificate];
        let mut leaves = chains.iter().filter_map(|chain| leaf(chain));
        let is_of_another_time = |info: CertificateInfo| {
            info.not_before > now || info.not_after > now.saturating_add(longest)
        };
        if leaves.any(is_of_another_time) {
            return Duration::ZERO;
        }
        self.renew_at().saturating_since(now)
    }
}

/// What a machine sends to become `node`, or to have the node's certificates renewed.
pub fn join_request(
    node: &str,
    addresses: &[IpAddr],
    key: &KeyPair,
    replace: bool,
) -> Result<JoinRequest, IdentityError> {
    let subject = node_subject(node);
    let names = SubjectNames {
        dns_names: vec![node.to_owned()],
        addresses: addresses.to_vec(),
    };
    let create = |names: &SubjectNames| {
        CertificateRequest::create(&subject, names, key).map_err(IdentityError::Request)
    };
    Ok(JoinRequest {
        node: node.to_owned(),
        addresses: addresses.to_vec(),
        client_request: create(&SubjectNames::default())?,
        serving_request: create(&names)?,
        network_request: CertificateRequest::create(
            &network_subject(),
            &SubjectNames::default(),
            key,
        )
        .map_err(IdentityError::Request)?,
        replace,
    })
}

fn leaf(chain: &str) -> Option<CertificateInfo> {
    let chain = decode_pem("CERTIFICATE", chain);
    CertificateInfo::from_der(chain.first()?).ok()
}

fn belongs(chain: &str, subject: &Subject, key: &KeyPair) -> bool {
    leaf(chain).is_some_and(|info| {
        info.subject == *subject && info.public_key_info == key.public_key_info()
    })
}
