//! What end-to-end tests stand on: real servers, real clients, and proof that nothing stays behind.

pub(crate) mod cluster;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod kubectl;
pub(crate) mod machine;
pub(crate) mod nodes;
pub(crate) mod objects;
pub(crate) mod server;
pub(crate) mod terminal;
pub(crate) mod wait;

pub(crate) use cluster::{Space, shared};
pub(crate) use kubectl::Kubectl;
pub(crate) use nodes::{Cluster, Node};
pub(crate) use server::{Options, Server};
pub(crate) use wait::{eventually, within};
