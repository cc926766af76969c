//! The manifests folder: what its files say is in the cluster, and what they no longer say is taken away again.
//!
//! Every file has a record, a ConfigMap in kube-system, of the objects that it made. A file that cannot be read, or whose
//! objects are refused, loses nothing: only a whole file that was applied takes away what it said before.

mod folder;
mod kinds;
mod manifest;
mod object_ref;
mod pass;
mod plan;
mod record;
mod run;
#[cfg(test)]
mod tests;

pub use run::{AddOns, run};
