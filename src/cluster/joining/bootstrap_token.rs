//! Bootstrap tokens as kubeadm has them: Secrets of type `bootstrap.kubernetes.io/token` in kube-system, with an end.

use std::collections::BTreeMap;
use std::time::Duration;

use env::{Rng, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::server_tokens::same;
use crate::token::{BOOTSTRAP_ID_LETTERS, BOOTSTRAP_SECRET_LETTERS, is_bootstrap_part};

pub const NAMESPACE: &str = "kube-system";
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";
/// Nodes that join with such a token need no group; others may be given some.
pub const DEFAULT_GROUP: &str = "system:bootstrappers:combo:default-node-token";
const GROUP_PREFIX: &str = "system:bootstrappers:";
pub const USAGES: [&str; 2] = ["authentication", "signing"];
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token with everything that is kept about it.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    pub id: String,
    pub secret: String,
    /// `None`: for ever.
    pub expires: Option<Timestamp>,
    pub description: String,
    pub groups: Vec<String>,
    pub usages: Vec<String>,
}

impl std::fmt::Debug for BootstrapToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "BootstrapToken({})", self.id)
    }
}

/// Why a bootstrap token is not accepted, or not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapTokenError {
    #[error("the token has expired")]
    Expired,
    #[error("there is no such token")]
    Unknown,
    #[error("the token may not be used for authentication")]
    Usage,
    #[error(
        "{0:?} is no bootstrap token: it has six letters, a dot, and sixteen letters of [a-z0-9]"
    )]
    Form(String),
    #[error("the group {0:?} does not begin with {GROUP_PREFIX}")]
    Group(String),
    #[error("there is no usage {0:?}; there are authentication and signing")]
    UnknownUsage(String),
}

/// The name of the Secret that holds the token with this id.
pub fn secret_name(id: &str) -> String {
    format!("{NAME_PREFIX}{id}")
}

impl BootstrapToken {
    /// A token nobody can guess, that ends after `life`.
    pub fn generate(now: Timestamp, life: Option<Duration>, rng: &dyn Rng) -> Self {
        let word = |letters: usize| -> String {
            (0..letters)
                .map(|_| {
                    let at = rng.below(LETTERS.len() as u64);
                    char::from(LETTERS[usize::try_from(at).unwrap_or_default()])
                })
                .collect()
        };
        Self {
            id: word(BOOTSTRAP_ID_LETTERS),
            secret: word(BOOTSTRAP_SECRET_LETTERS),
            expires: life.map(|life| now.saturating_add(life)),
            description: String::new(),
            groups: vec![DEFAULT_GROUP.to_owned()],
            usages: USAGES.map(str::to_owned).to_vec(),
        }
    }

    /// Takes id and secret from `<id>.<secret>`.
    pub fn with_text(mut self, text: &str) -> Result<Self, BootstrapTokenError> {
        let form = || BootstrapTokenError::Form(text.to_owned());
        let (id, secret) = text.split_once('.').ok_or_else(form)?;
        let fits = is_bootstrap_part(id, BOOTSTRAP_ID_LETTERS)
            && is_bootstrap_part(secret, BOOTSTRAP_SECRET_LETTERS);
        if !fits {
            return Err(form());
        }
        id.clone_into(&mut self.id);
        secret.clone_into(&mut self.secret);
        Ok(self)
    }

    /// Checks groups and usages as upstream does when it reads them.
    pub fn check(&self) -> Result<(), BootstrapTokenError> {
        if let Some(group) = self
            .groups
            .iter()
            .find(|group| !group.starts_with(GROUP_PREFIX))
        {
            return Err(BootstrapTokenError::Group(group.clone()));
        }
        let unknown = |usage: &&String| !USAGES.contains(&usage.as_str());
        match self.usages.iter().find(unknown) {
            Some(usage) => Err(BootstrapTokenError::UnknownUsage(usage.clone())),
            None => Ok(()),
        }
    }

    pub fn to_secret(&self) -> Secret {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: &str| {
            data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        };
        put("token-id", &self.id);
        put("token-secret", &self.secret);
        if let Some(expires) = self.expires {
            put("expiration", &expires.to_seconds_string());
        }
        if !self.description.is_empty() {
            put("description", &self.description);
        }
        if !self.groups.is_empty() {
            put("auth-extra-groups", &self.groups.join(","));
        }
        for usage in &self.usages {
            put(&format!("usage-bootstrap-{usage}"), "true");
        }
        Secret {
            metadata: ObjectMeta {
                name: Some(secret_name(&self.id)),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(SECRET_TYPE.to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }

    /// `None` if the Secret is no well-formed token.
    pub fn from_secret(secret: &Secret) -> Option<Self> {
        if secret.type_.as_deref() != Some(SECRET_TYPE) {
            return None;
        }
        let data = secret.data.as_ref()?;
        let text = |key: &str| {
            let bytes = data.get(key)?;
            String::from_utf8(bytes.0.clone()).ok()
        };
        let id = text("token-id")?;
        if secret.metadata.name.as_deref() != Some(&secret_name(&id)) {
            return None;
        }
        let expires = match text("expiration") {
            // An end that cannot be read must not become none.
            Some(expiration) => Some(Timestamp::parse(&expiration)?),
            None => None,
        };
        let groups = text("auth-extra-groups").unwrap_or_default();
        let used =
            |usage: &str| text(&format!("usage-bootstrap-{usage}")).as_deref() == Some("true");
        Some(Self {
            secret: text("token-secret")?,
            expires,
            description: text("description").unwrap_or_default(),
            groups: groups
                .split(',')
                .filter(|group| !group.is_empty())
                .map(str::to_owned)
                .collect(),
            usages: USAGES
                .iter()
                .filter(|usage| used(usage))
                .map(|usage| (*usage).to_owned())
                .collect(),
            id,
        })
    }

    /// Whether a holder of `secret` may authenticate at `now`.
    pub fn admit(&self, secret: &str, now: Timestamp) -> Result<(), BootstrapTokenError> {
        if !same(&self.secret, secret) {
            return Err(BootstrapTokenError::Unknown);
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err(BootstrapTokenError::Expired);
        }
        if !self.usages.iter().any(|usage| usage == "authentication") {
            return Err(BootstrapTokenError::Usage);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use env::SeededRng;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000)
    }

    fn token() -> BootstrapToken {
        BootstrapToken::generate(
            now(),
            Some(Duration::from_hours(24)),
            &*SeededRng::shared(7),
        )
    }

    #[test]
    fn a_secret_holds_the_whole_token() {
        let token = token();
        token.check().expect("good");
        assert_eq!(BootstrapToken::from_secret(&token.to_secret()), Some(token));
    }

    #[test]
    fn a_token_ends_and_only_its_secret_opens() {
        let token = token();
        let end = now().saturating_add(Duration::from_hours(24));
        assert_eq!(token.admit(&token.secret, now()), Ok(()));
        assert_eq!(
            token.admit(&token.secret, end),
            Err(BootstrapTokenError::Expired)
        );
        assert_eq!(token.admit("x", now()), Err(BootstrapTokenError::Unknown));
        let mut other = token.clone();
        other.usages = vec!["signing".to_owned()];
        assert_eq!(
            other.admit(&token.secret, now()),
            Err(BootstrapTokenError::Usage)
        );
    }

    #[test]
    fn a_damaged_secret_is_no_token() {
        let good = token().to_secret();
        let mut kind = good.clone();
        kind.type_ = Some("Opaque".to_owned());
        let mut name = good.clone();
        name.metadata.name = Some("bootstrap-token-other0".to_owned());
        let mut end = good.clone();
        let data = end.data.as_mut().expect("data");
        data.insert("expiration".to_owned(), ByteString(b"tomorrow".to_vec()));
        for damaged in [kind, name, end] {
            assert_eq!(BootstrapToken::from_secret(&damaged), None);
        }
    }

    #[test]
    fn groups_and_usages_are_checked() {
        let mut group = token();
        group.groups = vec!["system:masters".to_owned()];
        assert!(matches!(group.check(), Err(BootstrapTokenError::Group(_))));
        let mut usage = token();
        usage.usages = vec!["everything".to_owned()];
        assert!(matches!(
            usage.check(),
            Err(BootstrapTokenError::UnknownUsage(_))
        ));
        assert!(token().with_text("abc.def").is_err());
    }
}
