//! What can be wrong with a key, a certificate or a token.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the private key cannot be used: {0}")]
    Key(String),
    #[error("no token can be signed or checked with it: {0}")]
    TokenKey(String),
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    #[error("the certificate request cannot be read: {0}")]
    Request(String),
    #[error("the certificate request is not signed with its own key")]
    RequestSignature,
    #[error("no PEM block {label:?} found")]
    Pem { label: &'static str },
    #[error("the token is malformed: {0}")]
    Token(&'static str),
    #[error("the token's signature is invalid")]
    TokenSignature,
}
