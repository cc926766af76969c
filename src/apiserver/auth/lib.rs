//! Who you are, and what you may.

mod attributes;
mod user;

pub use attributes::{Attributes, Authorizer, Decision};
pub use user::{Authenticator, Credentials, User};
