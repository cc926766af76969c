//! Several authenticators or authorizers, asked in order.

use std::sync::Arc;

use apimachinery::ApiError;
use async_trait::async_trait;

use crate::{
    AUTHENTICATED_GROUP, Attributes, Authenticator, Authorizer, Credentials, Decision,
    MASTERS_GROUP, User,
};

/// The first that knows the credentials tells who it is. Whoever is known is in `system:authenticated`.
#[derive(Debug)]
pub struct AuthenticatorChain(pub Vec<Arc<dyn Authenticator>>);

#[async_trait]
impl Authenticator for AuthenticatorChain {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<User>, ApiError> {
        let mut refusal = None;
        for authenticator in &self.0 {
            match authenticator.authenticate(credentials).await {
                Ok(Some(mut user)) => {
                    if !user.is_in(AUTHENTICATED_GROUP) {
                        user.groups.push(AUTHENTICATED_GROUP.to_owned());
                    }
                    return Ok(Some(user));
                }
                Ok(None) => {}
                Err(error) => refusal = Some(error),
            }
        }
        refusal.map_or(Ok(None), Err)
    }
}

/// The first opinion counts; without one nothing is allowed.
#[derive(Debug)]
pub struct AuthorizerChain(pub Vec<Arc<dyn Authorizer>>);

#[async_trait]
impl Authorizer for AuthorizerChain {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion { reason } if reason.is_empty() => {}
                Decision::NoOpinion { reason } => reasons.push(reason),
                opinion => return opinion,
            }
        }
        Decision::NoOpinion {
            reason: reasons.join("\n"),
        }
    }
}

/// Lets `system:masters` do everything.
#[derive(Debug)]
pub struct MastersAuthorizer;

#[async_trait]
impl Authorizer for MastersAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.is_in(MASTERS_GROUP) {
            Decision::Allow {
                reason: String::new(),
            }
        } else {
            Decision::NoOpinion {
                reason: String::new(),
            }
        }
    }
}
