//! Safe faces on Linux system calls, each module one kernel interface.
//!
//! This crate knows nothing of Kubernetes. Errors say which call failed on what; nothing here retries without a limit.

pub mod atomic_file;
mod borrowed_settings;
pub mod cgroup;
pub mod error;
pub mod file_lock;
pub mod inotify;
pub mod mounts;
pub mod namespaces;
pub mod netlink;
mod network_namespace;
mod own_connections;
pub mod pid_fd;
pub mod process;
mod readable;
pub mod safe_path;
pub mod sysctl;
pub mod system;
pub mod tcp;
pub mod unix_socket;
pub mod wall_clock;

pub use atomic_file::AtomicFile;
pub use borrowed_settings::{BorrowedSettings, Setting};
pub use error::{Doing, Error, Result};
pub use network_namespace::NetworkNamespace;
pub use own_connections::end_own_connections;
pub use pid_fd::PidFd;
pub use readable::Readable;
