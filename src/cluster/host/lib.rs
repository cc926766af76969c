//! The machine around Combo: whether it can run here, what an installation puts where, and how all
//! of that goes away again.
//!
//! [`findings`] judges what [`HostFacts`] saw. An [`Installation`] writes each change down before
//! it makes it, so that removing it leaves the machine as it was. A [`Bundle`] is one file with
//! everything that a machine without a network needs.

mod boot_words;
mod bundle;
mod certificates;
mod error;
mod facts;
mod installation;
mod kernel_config;
mod ports;
mod preflight;
mod removal;
mod service_file;
mod settings;
mod status;

pub use boot_words::{BootFile, BootWords};
pub use bundle::{Architecture, Bundle, BundleContents, BundleMember};
pub use certificates::{Certificate, Standing, certificates};
pub use error::{Error, Result};
pub use facts::{HostFacts, Question};
pub use installation::{Init, Installation, Outcome, Role, installations};
pub use preflight::{Finding, Level, findings};
pub use removal::{RemovalStep, remove, remove_data};
pub use settings::{ServiceSettings, SnapshotSettings, values_in_files, variables};
pub use status::{CertificateState, ServiceState, service_state};
