//! The API server: filters, verbs, discovery, and the doors to them over the network and in this process.
//!
//! - [`ApiServer`] and its [`Config`].

mod admit;
mod answer;
mod body;
mod call;
mod catalog;
mod config;
mod connection;
mod decode;
mod delete_options;
mod dispatch;
mod endpoints;
mod filters;
mod impersonation;
mod managed_fields;
mod metadata;
mod metrics;
mod modify;
mod query;
mod request_info;
mod respond;
mod server;
mod state;
mod subresources;
mod transport;
mod verbs;
mod virtual_kinds;

pub use config::Config;
pub use server::ApiServer;
