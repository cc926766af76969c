//! etcd's API in front of any [`kv::Kv`]: its messages, errors, limits and defaults, so that its clients cannot tell.
//!
//! - [`serve`]: the server; [`Door`] says who may connect, [`Identity`] who answers.
//! - [`proto`]: the messages, which clients use too.

mod alarms;
mod bodies;
mod core;
mod elections;
mod health;
mod key_values;
mod leases;
mod locks;
mod maintenance;
mod members;
mod metrics;
mod outlet;
mod pages;
pub mod proto;
mod queues;
mod ranges;
mod reflection;
mod serve;
mod services;
mod status;
#[cfg(test)]
mod tests;
mod transactions;
mod watch_answers;
mod watches;

pub use core::Identity;
pub use serve::{Door, PROTOCOLS, serve};
