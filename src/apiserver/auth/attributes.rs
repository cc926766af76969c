//! What is asked of an authorizer, and its answer.

use async_trait::async_trait;

use crate::User;

/// One request as authorization sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub user: User,
    /// `get list watch create update patch delete deletecollection`, `impersonate`, `bind`, `escalate` …; the lower-case
    /// HTTP method for paths that are no resources.
    pub verb: String,
    pub namespace: String,
    pub api_group: String,
    pub api_version: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// The URL's path, for requests that are about no resource; then all resource fields are empty.
    pub path: Option<String>,
    /// The raw selectors of list, watch and deletecollection.
    pub field_selector: String,
    pub label_selector: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow {
        reason: String,
    },
    /// Nobody may allow it any more.
    Deny {
        reason: String,
    },
    NoOpinion {
        reason: String,
    },
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Tells whether a request may be done.
#[async_trait]
pub trait Authorizer: Send + Sync + std::fmt::Debug {
    async fn authorize(&self, attributes: &Attributes) -> Decision;
}
