//! What agents and servers say to each other while a node joins. Readable one release both ways: fields are only added.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The certificates that sign servers, in PEM; open to everybody.
pub const AUTHORITIES_PATH: &str = "/cacerts";
/// `POST`: a [`JoinRequest`] is answered with a [`JoinAnswer`].
pub const JOIN_PATH: &str = "/v1-combo/join";
/// `GET`: the server's time, open to everybody; see [`crate::ServerTime`].
pub const TIME_PATH: &str = "/v1-combo/time";
/// `GET` with an upgrade to [`TUNNEL_PROTOCOL`], for who has a node's certificate.
pub const CONNECT_PATH: &str = "/v1-combo/connect";
pub const TUNNEL_PROTOCOL: &str = "combo-tunnel-v1";

/// A machine asks to be a node, or a node to have its certificates renewed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    pub node: String,
    /// Under which the node wants to be known; only what the server can check is signed.
    pub addresses: Vec<IpAddr>,
    /// A certificate request in PEM for `system:node:<node>`.
    pub client_request: String,
    /// A certificate request in PEM for the kubelet's server, by the same key.
    pub serving_request: String,
    /// A certificate request in PEM for what looks after the node's network, by the same key.
    pub network_request: String,
    /// Take the place of a node of this name that had another key.
    #[serde(default)]
    pub replace: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// Chains in PEM, leaf first.
    pub client_certificate: String,
    pub serving_certificate: String,
    pub network_certificate: String,
    /// Who signs servers and kubelets, in PEM.
    pub server_authorities: String,
    /// Who signs clients of kubelets, in PEM.
    pub client_authorities: String,
    pub settings: ClusterSettings,
    /// All servers as `host:port`.
    pub servers: Vec<String>,
    /// Seconds since 1970 by the server's clock.
    pub server_time: i64,
}

/// What holds for the whole cluster, as its servers were configured.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSettings {
    pub cluster_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// How long a node's certificates live.
    pub certificate_seconds: u64,
    /// `--flannel-backend`.
    pub overlay: String,
    /// `--disable coredns`.
    #[serde(default)]
    pub dns_disabled: bool,
    /// `--disable-network-policy`.
    #[serde(default)]
    pub network_policy_disabled: bool,
    /// `--embedded-registry`.
    #[serde(default)]
    pub embedded_registry: bool,
}
