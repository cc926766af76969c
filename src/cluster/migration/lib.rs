//! A server's store made of that of a stopped k3s. The source is read from a copy and stays as it is; every key is
//! compared before the new store takes its place.

mod error;
mod kine;
mod object;
mod run;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use run::{LeftOut, Migrated, SealedBy, migrate};
