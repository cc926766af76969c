//! From CRI's words to OCI's and to a process plan: pure functions, nothing is touched here.

mod configuration;
mod devices;
mod mounts;
mod process;
mod users;

pub(crate) use configuration::{
    Namespaces, PidNamespace, SpecInputs, oci_configuration, process_document,
};
pub(crate) use devices::{HostDevice, device_rules};
pub(crate) use mounts::{SandboxFiles, mounts};
pub(crate) use process::{process_plan, stop_signal_number};
pub(crate) use users::{ResolvedUser, resolve_user};
