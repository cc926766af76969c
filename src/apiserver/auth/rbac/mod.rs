//! Role-based access control (`rbac.authorization.k8s.io/v1`).

mod authorizer;
mod escalation;
mod policy;
mod rule;

pub use authorizer::RbacAuthorizer;
pub use escalation::{EscalationError, uncovered};
pub use policy::{Policy, PolicyChange, RoleRef, Subject};
pub use rule::Rule;
