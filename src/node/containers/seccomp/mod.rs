//! System-call filters: a profile in OCI's or moby's form becomes one BPF program, or it is an error.
//!
//! libcontainer without its C library ignores profiles, so nothing here leaves the decision to it. The default
//! profile is moby's (data, Apache-2.0, `moby_default.json`); it allows more to a container with more capabilities.

mod assembler;
mod compiler;
mod numbers;
mod profile;

pub(crate) use compiler::compile;
pub(crate) use profile::Profile;

/// A compiled filter, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Filter {
    /// Each instruction packed as code, jump-if-true, jump-if-false, value (16, 8, 8, 32 bits).
    pub(crate) program: Vec<u64>,
    /// Flags of seccomp(2).
    pub(crate) flags: u32,
}

#[cfg(test)]
mod tests;
