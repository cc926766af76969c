//! `combo kubectl`: the commands people know, built in. Rendering is pure; what calls the server is in the command's own `run`.
//!
//! [`Kubectl`] are the arguments, [`run`] carries one command out. `apply` is always server-side.

mod apply;
mod arguments;
mod catalogue;
mod command;
mod create;
mod custom_columns;
mod delete;
mod describe;
mod error;
mod get;
mod json_path;
mod logs;
mod manifest;
mod output;
mod session;
mod tab_writer;
mod table;
mod times;
mod wait;
mod workloads;
mod yaml;

pub use command::{Kubectl, run};
pub use error::Error;
