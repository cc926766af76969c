//! Why a store cannot be opened, and what a failed write means to the caller.

use std::io;
use std::path::{Path, PathBuf};

use kv::VersionId;
use rusqlite::ErrorCode;

/// What is done about a damaged store.
pub(crate) const RESTORE_HINT: &str = "`combo db check` tells what is wrong; `combo snapshot list` shows what the cluster \
    can be restored from, and `combo snapshot restore --replace` does that";

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
        "the store {} is damaged: row {} (revision {}, key {key:?}): {problem}. {RESTORE_HINT}",
        path.display(), row.0, row.revision()
    )]
    DamagedRow {
        path: PathBuf,
        row: VersionId,
        key: String,
        problem: RowProblem,
    },
    #[error("the store {} is damaged: {problem}. {RESTORE_HINT}", path.display())]
    Damaged { path: PathBuf, problem: String },
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
        move |source| Self::of(path, doing, source, is_damage)
    }

    /// Of what every store has: that it cannot be understood is damage, too.
    pub(crate) fn reading(
        path: &Path,
        doing: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::of(path, doing, source, |error| !is_of_the_disk(error))
    }

    fn of(
        path: PathBuf,
        doing: &'static str,
        source: rusqlite::Error,
        is_damage: fn(&rusqlite::Error) -> bool,
    ) -> Self {
        if is_damage(&source) {
            let problem = format!("{doing}: {source}");
            return Self::Damaged { path, problem };
        }
        Self::Sqlite {
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
    #[error("its columns are not those of a version")]
    Shape,
    #[error("it stands behind one that is newer")]
    Order,
    #[error("it is sealed with key {0}, which is not among the sealing keys")]
    UnknownKey(i64),
    #[error("it cannot be decrypted with its sealing key")]
    Sealed,
}

/// Whether an error says that something in the file is not what was written.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Whether an error says something of the disk or the machine, and nothing of what is in the file. (A disk that is only read was noticed before.)
fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
        )
    )
}

/// What a caller is told of a failed write or read.
pub(crate) fn kv_error(error: &rusqlite::Error) -> kv::Error {
    // The index of the log needs space, too.
    let no_index = error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
    match error.sqlite_error_code() {
        _ if is_damage(error) => kv::Error::Corrupt,
        _ if no_index => kv::Error::NoSpace,
        Some(ErrorCode::DiskFull) => kv::Error::NoSpace,
        _ => kv::Error::Io(error.to_string()),
    }
}
