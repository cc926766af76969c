//! What can go wrong with images, and what a caller may do about each.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::refusal::Refusal;

/// What a caller decides by; the text of the error is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The registry or the store has no such image.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The registry could not be reached or broke off.
    Network,
    /// The disk is full or over quota.
    NoSpace,
    /// The image, the archive or the reference is wrong; trying again does not help.
    Invalid,
    /// Everything else the machine may answer.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("couldn't parse image name {name:?}: invalid reference format: {reason}")]
    Reference { name: String, reason: &'static str },
    #[error("{text:?} is not a sha256 digest")]
    DigestFormat { text: String },
    #[error("{what}: content has digest {found}, expected {expected}")]
    DigestMismatch {
        what: String,
        expected: Digest,
        found: Digest,
    },
    #[error("{what}: {size_bytes} bytes, more than the {size_bytes_max} allowed")]
    TooLarge {
        what: String,
        size_bytes: u64,
        size_bytes_max: u64,
    },
    #[error("{what} is not readable")]
    Json {
        what: String,
        source: serde_json::Error,
    },
    #[error("{what}: {reason}")]
    Invalid { what: String, reason: String },
    #[error("layer {diff_id}: entry {entry:?}: {refusal}")]
    Refused {
        diff_id: Digest,
        entry: String,
        refusal: Refusal,
    },
    #[error("image {name:?} not found")]
    ImageNotFound { name: String },
    #[error("{name}: not found")]
    RegistryNotFound { name: String },
    #[error(
        "{name}: pull access denied, the repository does not exist or may require authorization: {reason}"
    )]
    Unauthorized { name: String, reason: String },
    #[error("{name}: {reason}")]
    Network { name: String, reason: String },
    #[error("{doing} {path}", path = .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Linux(#[from] linux::Error),
    #[error("a task of the image store ended early")]
    TaskEnded,
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    /// The same for calls that answer an errno.
    pub(crate) fn errno(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(rustix::io::Errno) -> Self + use<> {
        let path = path.to_path_buf();
        move |errno| Self::Io {
            doing,
            path,
            source: errno.into(),
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into(),
            reason: reason.into(),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ImageNotFound { .. } | Self::RegistryNotFound { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Network { .. } => ErrorKind::Network,
            Self::Io { source, .. } => kind_of(source.kind()),
            Self::Linux(error) => kind_of(error.kind()),
            Self::TaskEnded => ErrorKind::Other,
            _ => ErrorKind::Invalid,
        }
    }

    /// The error and its causes on one line, as a container's waiting message shows it.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

fn kind_of(kind: io::ErrorKind) -> ErrorKind {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Invalid,
        _ => ErrorKind::Other,
    }
}

pub type Result<T> = std::result::Result<T, Error>;
