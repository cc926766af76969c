//! Errors of opening and cleaning up; everything else speaks [`cri::Error`].

use std::path::PathBuf;

/// Why the runtime cannot be opened or cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process runs the containers of this data directory.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error(transparent)]
    Linux(#[from] linux::Error),
    #[error("{doing}: {source}")]
    Io {
        doing: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Cri(#[from] cri::Error),
}

/// For what is nobody's fault in the pod.
pub(crate) fn internal(error: impl std::fmt::Display) -> cri::Error {
    cri::Error::Internal(error.to_string())
}
