//! The API server: filters, verbs, discovery, and the doors to them over the network and in this process.
//!
//! - [`ApiServer`] and its [`Config`].
//! - [`KubeletDialer`]: how the server reaches nodes and pods.
//! - [`StoreObjects`]: what authorizers and token reviews read.

mod admit;
mod answer;
mod apply;
mod body;
mod bootstrap;
mod call;
mod catalog;
mod config;
mod connection;
mod decode;
mod delete_options;
mod deprecations;
mod dispatch;
mod encodings;
mod endpoints;
mod filters;
mod heartbeat;
mod impersonation;
mod kubelet;
mod managed_fields;
mod metadata;
mod metrics;
mod modify;
mod objects;
mod policy_feed;
mod proxied_links;
mod proxy;
mod query;
mod quota;
mod request_info;
mod requester;
mod respond;
mod server;
mod services;
mod side_paths;
mod state;
mod subresources;
mod transport;
mod unverified_tls;
mod verbs;
mod virtual_kinds;
mod watch_body;

pub use config::{Advertised, AnonymousAccess, Authorities, Config, SERVER_ADDRESSES_ANNOTATION};
pub use kubelet::{ByteStream, DialError, KubeletAddress, KubeletDialer};
pub use metrics::MetricsSource;
pub use objects::StoreObjects;
pub use policy_feed::feed_policy;
pub use server::ApiServer;
pub use side_paths::{SideAnswer, SidePaths, SideRequest, Switched};
