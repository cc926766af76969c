//! A server's store made of that of another Kubernetes, and the way back.
//!
//! The source is read as it is at one moment and stays as it is; every key is compared before what was written counts.

mod contents;
mod error;
mod etcd_source;
mod etcd_target;
mod export;
mod kine;
mod kine_target;
mod object;
mod run;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use export::{Exported, Target, export};
pub use run::{LeftOut, Migrated, SealedBy, Source, migrate};
