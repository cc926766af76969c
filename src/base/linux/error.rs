//! One error: what was being done, and what the kernel said.

use std::io;

/// The result of every function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed system call and what it was for.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct Error {
    doing: String,
    source: io::Error,
}

impl Error {
    /// An error that no system call gave: the kernel cannot do it, or its answer made no sense.
    pub fn other(doing: impl Into<String>, message: impl Into<String>) -> Error {
        Error {
            doing: doing.into(),
            source: io::Error::other(message.into()),
        }
    }

    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The errno, when a system call gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }
}

/// Says what was being done when a call failed.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error {
            doing: what(),
            source: source.into(),
        })
    }
}
