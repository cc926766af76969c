//! Why a store cannot be opened, and what a failed write means to the caller.

use std::io;
use std::path::{Path, PathBuf};

use kv::VersionId;
use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("open the store {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the store {} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("{} is a database, but not a store of this program", path.display())]
    NotAStore { path: PathBuf },
    #[error(
        "the store {} has format {found}, and this program knows only up to {known}: start it with a newer version",
        path.display()
    )]
    NewerFormat {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error(
        "the store {} is damaged: row {} (revision {}, key {key:?}): {problem}",
        path.display(), row.0, row.revision()
    )]
    DamagedRow {
        path: PathBuf,
        row: VersionId,
        key: String,
        problem: RowProblem,
    },
    #[error("{doing} in the store {}", path.display())]
    Sqlite {
        path: PathBuf,
        doing: &'static str,
        source: rusqlite::Error,
    },
}

impl OpenError {
    pub(crate) fn sqlite(path: &Path, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Sqlite {
            path,
            doing,
            source,
        }
    }
}

/// What is wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    #[error("its checksum does not match")]
    Checksum,
    #[error("it has no value")]
    Shape,
    #[error("it is sealed with key {0}, which is not among the sealing keys")]
    UnknownKey(i64),
    #[error("it cannot be decrypted with its sealing key")]
    Sealed,
}

/// What a caller is told of a failed write or read.
pub(crate) fn kv_error(error: &rusqlite::Error) -> kv::Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => kv::Error::NoSpace,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => kv::Error::Corrupt,
        _ => kv::Error::Io(error.to_string()),
    }
}
