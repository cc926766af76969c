//! Service account tokens: issued bound to an object and an audience, and believed only while what they name exists.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, ObjectKey, StoredObject};
use async_trait::async_trait;
use env::{Clock, Rng, Timestamp};
use pki::{JwtSigner, JwtVerifier, SigningKey, VerifyingKey, decode_unverified_claims};
use serde_json::{Value, json};

use crate::{Authenticator, Credentials, Objects, User};

/// A token lives at least this long (TokenRequest validation).
pub const TOKEN_LIFE_MIN: Duration = Duration::from_secs(600);
/// A token lives at most this long.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(1 << 32);
/// A machine without a clock of its own goes on, after a power cut, from a time that can be a day old: tokens that it gave out since are its
/// own all the same. Those of a clock that was years ahead are not: they would live for as long.
const BEGIN_LEEWAY_SECONDS: i64 = 24 * 3600;
/// A token outlives the deletion of what it is bound to by this, so that a pod's last words are heard.
const DELETION_LEEWAY: Duration = Duration::from_secs(60);

/// The object whose life bounds the token's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundObject {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// For pods: the node they run on, with its uid.
    pub node: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueToken {
    pub namespace: String,
    pub service_account: String,
    pub service_account_uid: String,
    /// Empty: the API server's own.
    pub audiences: Vec<String>,
    pub life: Duration,
    pub bound: Option<BoundObject>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    pub token: String,
    pub expires: Timestamp,
    pub audiences: Vec<String>,
}

/// Who issues tokens, and which are believed.
#[derive(Clone, Debug)]
pub struct TokenIssuers {
    /// The `iss` claim of issued tokens, and by default their audience.
    pub issuer: String,
    /// Issuers of old, whose tokens are still believed.
    pub former_issuers: Vec<String>,
    pub signing: SigningKey,
    /// The keys with which tokens are checked, in the order in which they are published.
    pub accepted: Vec<VerifyingKey>,
}

/// Issues and believes the cluster's service account tokens.
#[derive(Debug)]
pub struct ServiceAccountTokens {
    /// Every believed issuer, the present one first; they are the API server's audiences too.
    issuers: Vec<String>,
    signer: JwtSigner,
    verifier: JwtVerifier,
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl ServiceAccountTokens {
    pub fn new(
        issuers: TokenIssuers,
        objects: Arc<dyn Objects>,
        (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
    ) -> Self {
        let mut believed = vec![issuers.issuer];
        believed.extend(issuers.former_issuers);
        Self {
            issuers: believed,
            signer: JwtSigner::new(issuers.signing),
            verifier: JwtVerifier::new(issuers.accepted),
            objects,
            clock,
            rng,
        }
    }

    fn issuer(&self) -> &str {
        &self.issuers[0]
    }

    pub fn api_audiences(&self) -> &[String] {
        &self.issuers
    }

    /// `/openid/v1/jwks`, and `/.well-known/openid-configuration` for who reaches this server at `address`.
    ///
    /// `None`: the issuer is no `https` address, so by the rules of `OpenID` discovery there is nothing to be found.
    pub fn issuer_documents(&self, address: &str) -> Option<(Value, Value)> {
        if !self.issuer().starts_with("https://") || self.issuer().contains(['?', '#']) {
            return None;
        }
        let keys = self.verifier.keys();
        let algorithms: BTreeSet<&str> = keys.iter().map(VerifyingKey::algorithm).collect();
        let discovery = json!({
            "issuer": self.issuer(),
            "jwks_uri": format!("https://{address}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        });
        Some((self.verifier.key_set(), discovery))
    }

    pub fn issue(&self, request: &IssueToken) -> Result<IssuedToken, ApiError> {
        let now = self.clock.now();
        let expires = now.saturating_add(request.life);
        let audiences = if request.audiences.is_empty() {
            self.issuers.clone()
        } else {
            request.audiences.clone()
        };
        let mut private = json!({
            "namespace": request.namespace,
            "serviceaccount": {"name": request.service_account, "uid": request.service_account_uid},
        });
        if let Some(bound) = &request.bound {
            private[bound.kind.to_lowercase()] = json!({"name": bound.name, "uid": bound.uid});
            if let Some((name, uid)) = &bound.node {
                private["node"] = json!({"name": name, "uid": uid});
            }
        }
        let claims = json!({
            "aud": audiences, "iss": self.issuer(), "jti": self.rng.uuid(),
            "sub": format!("system:serviceaccount:{}:{}", request.namespace, request.service_account),
            "iat": now.unix_seconds(), "nbf": now.unix_seconds(), "exp": expires.unix_seconds(),
            "kubernetes.io": private,
        });
        let token = self.signer.sign(&claims).map_err(ApiError::internal)?;
        Ok(IssuedToken {
            token,
            expires,
            audiences,
        })
    }

    /// Who holds `token`, and which of `audiences` (empty: the API server's own) it is for.
    ///
    /// `Ok(None)`: not one of ours. An error: ours and not to be believed, with the reason.
    pub async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(User, Vec<String>)>, String> {
        let ours = decode_unverified_claims(token).is_some_and(|claims| {
            let named = claims["iss"].as_str();
            named.is_some_and(|named| self.issuers.iter().any(|issuer| issuer == named))
        });
        if !ours {
            return Ok(None);
        }
        let claims = self
            .verifier
            .verify(token)
            .map_err(|error| error.to_string())?;
        let wanted = if audiences.is_empty() {
            &self.issuers
        } else {
            audiences
        };
        let granted = shared_audiences(&claims["aud"], wanted);
        if granted.is_empty() {
            return Err(format!(
                "token audiences {} is invalid for the target audiences {wanted:?}",
                claims["aud"]
            ));
        }
        self.check_times(&claims)?;
        let user = self.user_of(&claims).await?;
        Ok(Some((user, granted)))
    }

    fn check_times(&self, claims: &Value) -> Result<(), String> {
        let now = self.clock.now().unix_seconds();
        if claims["exp"].as_i64().is_none_or(|expires| expires <= now) {
            return Err("service account token has expired".to_owned());
        }
        if claims["nbf"]
            .as_i64()
            .is_some_and(|begins| begins > now + BEGIN_LEEWAY_SECONDS)
        {
            return Err("service account token is not valid yet".to_owned());
        }
        Ok(())
    }

    async fn user_of(&self, claims: &Value) -> Result<User, String> {
        let private = &claims["kubernetes.io"];
        let namespace = text(&private["namespace"]);
        let account = &private["serviceaccount"];
        self.check_exists("serviceaccounts", &namespace, account)
            .await?;
        for (claim, resource, scope) in [
            ("pod", "pods", namespace.as_str()),
            ("secret", "secrets", namespace.as_str()),
            ("node", "nodes", ""),
        ] {
            let bound = &private[claim];
            // A pod's node is told, not bound: the pod already bounds the token.
            if bound.is_object() && (claim != "node" || !private["pod"].is_object()) {
                self.check_exists(resource, scope, bound).await?;
            }
        }
        let name = text(&account["name"]);
        let mut user = User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: text(&account["uid"]),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ],
            ..User::default()
        };
        let mut tell = |key: &str, value: &Value| {
            if let Some(value) = value.as_str() {
                user.extra.insert(
                    format!("authentication.kubernetes.io/{key}"),
                    vec![value.to_owned()],
                );
            }
        };
        tell("pod-name", &private["pod"]["name"]);
        tell("pod-uid", &private["pod"]["uid"]);
        tell("node-name", &private["node"]["name"]);
        tell("node-uid", &private["node"]["uid"]);
        tell(
            "credential-id",
            &Value::String(format!("JTI={}", text(&claims["jti"]))),
        );
        Ok(user)
    }

    async fn check_exists(
        &self,
        resource: &str,
        namespace: &str,
        claim: &Value,
    ) -> Result<(), String> {
        let key = ObjectKey::namespaced(namespace, text(&claim["name"]));
        let object = self.objects.get("", resource, &key).await;
        let object = object.ok_or_else(|| {
            format!("service account token has been invalidated: {resource} {key} is gone")
        })?;
        if object.index.uid != text(&claim["uid"]) {
            return Err(format!(
                "service account token has been invalidated: {resource} {key} was recreated"
            ));
        }
        if object.index.is_being_deleted && self.is_past_leeway(&object) {
            return Err(format!(
                "service account token has been invalidated: {resource} {key} has been deleted"
            ));
        }
        Ok(())
    }

    fn is_past_leeway(&self, object: &StoredObject) -> bool {
        let value: Value = object.decode().unwrap_or_default();
        let deleted = value["metadata"]["deletionTimestamp"]
            .as_str()
            .and_then(Timestamp::parse);
        deleted.is_none_or(|deleted| deleted.saturating_add(DELETION_LEEWAY) < self.clock.now())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn shared_audiences(claim: &Value, wanted: &[String]) -> Vec<String> {
    let claimed: Vec<&str> = match claim {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    wanted
        .iter()
        .filter(|audience| claimed.contains(&audience.as_str()))
        .cloned()
        .collect()
}

#[async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<User>, ApiError> {
        let Some(token) = &credentials.bearer_token else {
            return Ok(None);
        };
        match self.review(token, &[]).await {
            Ok(reviewed) => Ok(reviewed.map(|(user, _audiences)| user)),
            Err(reason) => {
                tracing::debug!(reason, "a service account token was refused");
                Err(ApiError::unauthorized())
            }
        }
    }
}
