//! What can go wrong with sealed files.

use std::io;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the folder {}", path.display())]
    MakeFolder { path: PathBuf, source: io::Error },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("write a sealed file")]
    Write(#[from] linux::Error),
    #[error("remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    /// Changed, cut short, or written with another key.
    #[error("{} cannot be opened with this key: it is damaged, or another key sealed it", path.display())]
    Unreadable { path: PathBuf },
    #[error(
        "a record of {bytes} bytes under a name of {name_bytes} is too large: at most {} and {} are kept",
        crate::RECORD_BYTES_MAX,
        crate::NAME_BYTES_MAX
    )]
    TooLarge { bytes: usize, name_bytes: usize },
    #[error(
        "there are {} records already, and no more are kept",
        crate::RECORDS_MAX
    )]
    TooMany,
    /// Why is in the log; it is tried again.
    #[error("a record could not be written")]
    NotWritten,
    /// The task that writes has ended, and with it what it was to write.
    #[error("records are not written any more: the process is ending")]
    Ended,
}
