//! Who you are, and what you may.

mod attributes;
mod bootstrap;
mod certificates;
mod chain;
mod lookup;
mod node;
pub mod rbac;
mod service_account;
mod user;

pub use attributes::{Attributes, Authorizer, Decision};
pub use bootstrap::bootstrap_objects;
pub use certificates::ClientCertificates;
pub use chain::{AuthenticatorChain, AuthorizerChain, MastersAuthorizer};
pub use lookup::Objects;
pub use node::{NodeAuthorizer, node_name};
pub use rbac::{RbacAuthorizer, Rule};
pub use service_account::{
    BoundObject, IssueToken, IssuedToken, ServiceAccountTokens, TOKEN_LIFE_MAX, TOKEN_LIFE_MIN,
    TokenIssuers,
};
pub use user::{Authenticator, Credentials, User};

/// The group that may do everything, and that RBAC cannot take it from.
pub const MASTERS_GROUP: &str = "system:masters";
/// Every identity that proved itself is in it.
pub const AUTHENTICATED_GROUP: &str = "system:authenticated";
