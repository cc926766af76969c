//! The server's side of joining: who asks is checked, the name is bound to the key, and both certificates are signed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use env::{Clock, Rng, Timestamp};
use k8s_openapi::api::core::v1::{Node, Secret as SecretObject};
use kube_client::{Client, ClientError};
use pki::{CertificateAuthority, Profile, SubjectNames, encode_pem};

use crate::binding::{self, Decision, Proof, Refusal, Standing};
use crate::bootstrap_token::{self, BootstrapToken, BootstrapTokenError};
use crate::check::{CheckedRequest, RequestError, check};
use crate::protocol::{ClusterSettings, JoinAnswer, JoinRequest};
use crate::server_tokens::ServerTokens;
use crate::token::{Role, Secret};

/// A write of the binding that somebody else was quicker with is tried again so often.
const BINDING_TRIES_MAX: usize = 5;

/// Signs nodes' certificates.
#[derive(Clone, Debug)]
pub struct NodeSigner {
    pub clients: CertificateAuthority,
    pub servers: CertificateAuthority,
    /// How long a certificate lives.
    pub life: Duration,
}

/// What the service needs.
pub struct Parts {
    /// May read and write Secrets in kube-system and read Nodes.
    pub client: Client,
    pub tokens: ServerTokens,
    pub signer: NodeSigner,
    /// The names in the server's own certificate.
    pub reserved_names: Vec<String>,
    pub settings: ClusterSettings,
    /// All servers as `host:port`, as of now.
    pub servers: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
}

/// Answers join requests.
pub struct JoinService(Parts);

impl fmt::Debug for JoinService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JoinService")
    }
}

/// Why a request to join got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the request is not a join request in JSON: {0}")]
    Body(String),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the Authorization header is neither `Basic` with a token nor `Bearer` with one")]
    Authorization,
    #[error("the token is not valid here; look at server/agent-token in the server's data folder")]
    Token,
    #[error("the token is not valid: {0}")]
    Bootstrap(#[from] BootstrapTokenError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the node's key cannot be recorded: {0}")]
    Store(#[from] ClientError),
    #[error("the token file cannot be read: {0}")]
    TokenFile(#[from] std::io::Error),
    #[error("the certificates cannot be signed: {0}")]
    Sign(#[from] pki::Error),
}

impl JoinError {
    /// As clients see it.
    pub fn to_api_error(&self) -> ApiError {
        let text = self.to_string();
        match self {
            Self::Body(_) | Self::Request(_) | Self::Authorization => ApiError::bad_request(text),
            Self::Token | Self::Bootstrap(_) | Self::Refused(Refusal::TokenNeeded { .. }) => {
                ApiError {
                    message: text,
                    ..ApiError::unauthorized()
                }
            }
            Self::Refused(_) => ApiError {
                message: text,
                ..ApiError::forbidden(&apimachinery::GroupResource::new("", "nodes"), "", "")
            },
            Self::Store(_) | Self::TokenFile(_) | Self::Sign(_) => ApiError::internal(text),
        }
    }
}

impl JoinService {
    pub fn new(parts: Parts) -> Self {
        Self(parts)
    }

    /// Who signs servers, in PEM: what `/cacerts` answers and tokens pin.
    pub fn authorities(&self) -> String {
        self.0.signer.servers.trusted_pem()
    }

    /// Answers one request that came from `peer` with this `Authorization` header.
    pub async fn join(
        &self,
        authorization: Option<&str>,
        peer: IpAddr,
        body: &[u8],
    ) -> Result<JoinAnswer, JoinError> {
        let request: JoinRequest =
            serde_json::from_slice(body).map_err(|error| JoinError::Body(error.to_string()))?;
        let checked = check(&request, peer, &self.0.reserved_names)?;
        let proof = match authorization {
            Some(header) => self.prove(&read_authorization(header)?).await?,
            None => Proof::KeyOnly,
        };
        self.bind(&checked, proof, request.replace).await?;
        let answer = self.sign(&checked)?;
        tracing::info!(node = checked.node, %peer, "a node has its certificates");
        Ok(answer)
    }

    /// Binds a name to a key that needs no proof: the node in the server's own process.
    pub async fn bind_own(&self, node: &str, public_key_info: &[u8]) -> Result<(), JoinError> {
        let checked = CheckedRequest {
            node: node.to_owned(),
            subject: crate::check::node_subject(node),
            public_key_info: public_key_info.to_vec(),
            serving_names: SubjectNames::default(),
        };
        // Its key is in the data folder: whoever has that folder is the server.
        self.bind(&checked, Proof::Token, true).await
    }

    async fn prove(&self, secret: &Secret) -> Result<Proof, JoinError> {
        match secret {
            Secret::Password { role, password } => {
                let role = self.0.tokens.role_of(*role, password)?;
                role.map(|_any| Proof::Token).ok_or(JoinError::Token)
            }
            Secret::Bootstrap { id, secret } => {
                let api = self
                    .0
                    .client
                    .api::<SecretObject>(bootstrap_token::NAMESPACE);
                let found = api.get_optional(&bootstrap_token::secret_name(id)).await?;
                let token = found.as_ref().and_then(BootstrapToken::from_secret);
                let token = token.ok_or(BootstrapTokenError::Unknown)?;
                token.admit(secret, self.0.clock.now())?;
                Ok(Proof::Token)
            }
        }
    }

    async fn bind(
        &self,
        checked: &CheckedRequest,
        proof: Proof,
        replace: bool,
    ) -> Result<(), JoinError> {
        let fingerprint = binding::fingerprint(&checked.public_key_info);
        let mut last = None;
        for _try in 0..BINDING_TRIES_MAX {
            match self
                .try_to_bind(&checked.node, &fingerprint, proof, replace)
                .await
            {
                // Somebody else wrote in between: what he wrote decides.
                Err(JoinError::Store(error))
                    if error.is_conflict() || error.is_already_exists() =>
                {
                    last = Some(error);
                }
                ended => return ended,
            }
        }
        Err(last.map_or(JoinError::Token, JoinError::Store))
    }

    async fn try_to_bind(
        &self,
        node: &str,
        fingerprint: &str,
        proof: Proof,
        replace: bool,
    ) -> Result<(), JoinError> {
        let secrets = self.0.client.api::<SecretObject>(binding::NAMESPACE);
        let found = secrets.get_optional(&binding::secret_name(node)).await?;
        let bound = found
            .as_ref()
            .map(|secret| binding::bound_fingerprint(secret).unwrap_or_default());
        let standing = self.standing(node, replace && bound.is_some()).await?;
        let decision = binding::decide(
            node,
            fingerprint,
            bound.as_deref(),
            proof,
            replace,
            standing,
        );
        let mut wanted = binding::secret(node, fingerprint);
        match decision {
            Decision::Keep => Ok(()),
            Decision::Refuse(refusal) => Err(refusal.into()),
            Decision::Bind => {
                secrets.create(&wanted).await?;
                Ok(())
            }
            Decision::Replace => {
                let version = found.and_then(|secret| secret.metadata.resource_version);
                wanted.metadata.resource_version = version;
                secrets.update(&wanted).await?;
                tracing::warn!(
                    node,
                    "a node with another key took the place of the one before"
                );
                Ok(())
            }
        }
    }

    /// Looks only if the answer matters.
    async fn standing(&self, node: &str, matters: bool) -> Result<Standing, ClientError> {
        if !matters {
            return Ok(Standing::Absent);
        }
        let found = self.0.client.api::<Node>("").get_optional(node).await?;
        Ok(Standing::of(found.as_ref()))
    }

    fn sign(&self, checked: &CheckedRequest) -> Result<JoinAnswer, JoinError> {
        let now = self.0.clock.now();
        let signer = &self.0.signer;
        let nobody = SubjectNames::default();
        let client = self.issue(&signer.clients, checked, &nobody, Profile::Client, now)?;
        let names = &checked.serving_names;
        let serving = self.issue(&signer.servers, checked, names, Profile::Server, now)?;
        let network = CheckedRequest {
            subject: crate::check::network_subject(),
            ..checked.clone()
        };
        let network = self.issue(&signer.clients, &network, &nobody, Profile::Client, now)?;
        Ok(JoinAnswer {
            client_certificate: client,
            serving_certificate: serving,
            network_certificate: network,
            server_authorities: signer.servers.trusted_pem(),
            client_authorities: signer.clients.trusted_pem(),
            settings: self.0.settings.clone(),
            servers: (self.0.servers)(),
            server_time: now.unix_seconds(),
        })
    }

    fn issue(
        &self,
        authority: &CertificateAuthority,
        checked: &CheckedRequest,
        names: &SubjectNames,
        profile: Profile,
        now: Timestamp,
    ) -> Result<String, pki::Error> {
        let issued = authority.issue(
            &checked.subject,
            names,
            &checked.public_key_info,
            profile,
            (now, self.0.signer.life),
            &*self.0.rng,
        )?;
        Ok(encode_pem("CERTIFICATE", &issued) + &authority.chain_pem())
    }
}

/// Reads `Basic base64(user:password)` and `Bearer id.secret`.
fn read_authorization(header: &str) -> Result<Secret, JoinError> {
    let (scheme, value) = header.split_once(' ').ok_or(JoinError::Authorization)?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        let token: crate::token::JoinToken =
            value.parse().map_err(|_form| JoinError::Authorization)?;
        return Ok(token.secret);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(JoinError::Authorization);
    }
    let decoded = STANDARD
        .decode(value)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = decoded
        .as_deref()
        .and_then(|text| text.split_once(':'))
        .ok_or(JoinError::Authorization)?;
    let roles = [Role::Server, Role::Agent];
    let role = roles.into_iter().find(|role| role.user() == user);
    if role.is_none() && !user.is_empty() {
        return Err(JoinError::Token);
    }
    Ok(Secret::Password {
        role,
        password: password.to_owned(),
    })
}

/// The `Authorization` header for a token's secret: what [`JoinService`] reads.
pub fn authorization(secret: &Secret) -> String {
    match secret {
        Secret::Password { role, password } => {
            let user = role.map_or("", Role::user);
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        Secret::Bootstrap { id, secret } => format!("Bearer {id}.{secret}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_is_read_from_its_own_header() {
        let password = |role| Secret::Password {
            role,
            password: "p:w".to_owned(),
        };
        let secrets = [
            password(None),
            password(Some(Role::Agent)),
            password(Some(Role::Server)),
            Secret::Bootstrap {
                id: "abcdef".to_owned(),
                secret: "0123456789abcdef".to_owned(),
            },
        ];
        for secret in secrets {
            let read = read_authorization(&authorization(&secret)).expect("a header");
            assert_eq!(read, secret);
        }
        for header in ["", "Basic", "Basic ???", "Digest x", "Basic bm9jb2xvbg=="] {
            assert!(read_authorization(header).is_err(), "{header}");
        }
    }
}
