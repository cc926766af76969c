//! The container runtime: sandboxes without a pause image, containers through libcontainer, one shim per pod.
//!
//! [`Runtime`] implements [`cri::RuntimeService`]. It owns nothing that a crash could lose: shims hold the pods, a
//! tmpfs holds the records, and [`Runtime::open`] finds both again. The binary must call [`shim::main`] before
//! anything else when its first argument is [`shim::ARGUMENT`].

mod capabilities;
mod error;
mod executor;
mod layout;
mod plan;
mod runtime;
mod seccomp;
pub mod shim;
mod spec;

pub use error::Error;
pub use runtime::{LogLimits, Runtime, RuntimeOptions};
