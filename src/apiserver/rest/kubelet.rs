//! The door to what runs on nodes: kubelets, and the addresses of pods and Services.

use std::fmt;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where a node's kubelet listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletAddress {
    pub node: String,
    /// The node's `InternalIP`, else another address or its name.
    pub host: String,
    pub port: u16,
}

/// A byte stream in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct DialError(pub String);

/// Opens connections on behalf of the API server.
#[async_trait]
pub trait KubeletDialer: Send + Sync + fmt::Debug {
    /// A TLS connection to a kubelet, authenticated as the API server.
    async fn dial_kubelet(
        &self,
        address: &KubeletAddress,
    ) -> Result<Box<dyn ByteStream>, DialError>;

    /// A plain TCP connection to an address of a pod or a Service's endpoint, seen from the cluster. `node` is where it
    /// lives, if that is known.
    async fn dial(
        &self,
        node: Option<&str>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn ByteStream>, DialError>;
}
