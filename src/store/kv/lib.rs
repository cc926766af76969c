//! etcd's promises as a trait, the shared tree and ring, and the in-memory model.
//!
//! A store holds keys and values as bytes under one revision for the whole store. It has never heard of objects.

mod types;

pub use types::*;
