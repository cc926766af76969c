//! What can go wrong on an upgraded connection.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the connection was closed")]
    Closed,
    #[error("the peer refused the stream")]
    Refused,
    #[error("timed out waiting for {0}")]
    TimedOut(&'static str),
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the server did not upgrade the connection: {0}")]
    NotUpgraded(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
