//! An identity, and what turns a request's credentials into one.

use std::collections::BTreeMap;

use apimachinery::ApiError;
use async_trait::async_trait;

/// Who makes a request (`authentication.k8s.io` UserInfo).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub fn named(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..Self::default()
        }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member_of| member_of == group)
    }

    /// Namespace and name, if this is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')
    }
}

/// What a request brings to prove who makes it.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The client certificates of the TLS connection in DER, leaf first; already verified against nothing.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The `Authorization: Bearer` token.
    pub bearer_token: Option<String>,
}

/// Tells who makes a request.
#[async_trait]
pub trait Authenticator: Send + Sync + std::fmt::Debug {
    /// `Ok(None)`: no credentials that this authenticator reads. An error: credentials that it reads and refuses.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<User>, ApiError>;
}
