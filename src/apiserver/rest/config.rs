//! What an API server is made of.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use admission::Plugin;
use auth::{Authenticator, Authorizer, RbacAuthorizer, ServiceAccountTokens};
use env::{Clock, Rng};
use ipnet::IpNet;
use kv::Kv;
use tokio::sync::watch;

use crate::kubelet::KubeletDialer;
use crate::side_paths::SidePaths;

/// Certificate authorities that others may trust, as PEM.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// Signs client certificates.
    pub client_pem: String,
    /// Signs the certificate with which this server passes on requests in others' names.
    pub request_header_pem: String,
}

/// On the `EndpointSlice` of the Service `kubernetes`: all addresses of its servers as `host:port`, with commas between. The
/// endpoints are those that count; whoever reaches none of them any more may try the others.
pub const SERVER_ADDRESSES_ANNOTATION: &str = "combo.io/server-addresses";

/// Where clients reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The endpoint of the Service `kubernetes`.
    pub address: SocketAddr,
    /// Other addresses of the same machine, with the same port.
    pub others: Vec<IpAddr>,
}

/// What a request without credentials comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonymousAccess {
    /// It is that of `system:anonymous`, who may what roles allow.
    Allowed,
    /// 401, on every path.
    Refused,
}

/// Everything an API server needs from outside.
#[derive(Clone, Debug)]
pub struct Config {
    pub kv: Arc<dyn Kv>,
    pub authenticator: Arc<dyn Authenticator>,
    pub anonymous_access: AnonymousAccess,
    pub authorizer: Arc<dyn Authorizer>,
    /// Answers rules reviews; one of those that `authorizer` asks.
    pub rbac: Option<Arc<RbacAuthorizer>>,
    /// Issues and reviews service account tokens.
    pub tokens: Option<Arc<ServiceAccountTokens>>,
    /// Without one, nothing that runs on nodes can be reached.
    pub kubelets: Option<Arc<dyn KubeletDialer>>,
    /// Serves paths beside the API.
    pub side_paths: Option<Arc<dyn SidePaths>>,
    /// In the order they run.
    pub admission: Vec<Arc<dyn Plugin>>,
    /// Where `ClusterIPs` come from: one range, or one of each family with the preferred first.
    pub service_ranges: Vec<IpNet>,
    /// Published to servers that extend the API.
    pub authorities: Option<Authorities>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// Where clients reach the server, as it is now; whoever changes it calls [`crate::ApiServer::advertise`].
    pub advertised: watch::Receiver<Advertised>,
    /// All servers that share the store, this one among them; `None`: there is no other one.
    pub living: Option<watch::Receiver<Vec<Advertised>>>,
}
