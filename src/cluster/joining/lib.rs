//! How a machine becomes a node, and stays one: tokens, the node's own key, certificates signed for it and renewed.
//!
//! An agent makes one key and never sends it. It shows a token (or, later, nothing but the key) and two certificate requests; the server
//! binds the node's name to the key in a Secret, and signs. Whoever holds another key cannot have the name while its owner lives.

pub mod binding;
pub mod bootstrap_token;
mod check;
mod client;
mod identity;
mod protocol;
mod server_tokens;
mod service;
mod token;

pub use check::{CheckedRequest, NETWORK_USER, RequestError, check, network_subject, node_subject};
pub use client::{JoinClient, JoinFailure, SERVER_NAME, ServerTime, server_time};
pub use identity::{IdentityError, IdentityFolder, NodeIdentity, join_request};
pub use protocol::{
    AUTHORITIES_PATH, CONNECT_PATH, ClusterSettings, JOIN_PATH, JoinAnswer, JoinRequest, TIME_PATH,
    TUNNEL_PROTOCOL,
};
pub use server_tokens::{ServerTokens, read_password};
pub use service::{JoinError, JoinService, NodeSigner, Parts, authorization};
pub use token::{AuthorityHash, JoinToken, Role, Secret, TokenError};
