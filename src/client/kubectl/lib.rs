//! `combo kubectl`: the commands people know, built in. Rendering is pure; what calls the server is in the command's own `run`.
//!
//! [`Kubectl`] are the arguments, [`run`] carries one command out. `apply` is always server-side. [`OnNode`] are the commands about
//! the pods of a node that its own socket answers.

mod api_resources;
mod apply;
mod arguments;
mod auth;
mod catalogue;
mod command;
mod config_view;
mod create;
mod custom_columns;
mod delete;
mod describe;
mod error;
mod exec;
mod get;
mod json_path;
mod labels;
mod logs;
mod manifest;
mod node;
mod objects;
mod output;
mod patch;
mod rollout;
mod scale;
mod session;
mod tab_writer;
mod table;
mod times;
mod version;
mod wait;
mod workloads;

#[cfg(test)]
mod tests;

pub use command::{Kubectl, run};
pub use error::Error;
pub use node::{NodeExec, NodeLogs, NodePods, OnNode};
