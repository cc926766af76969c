//! What can go wrong with the machine around Combo.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Linux(#[from] linux::Error),
    #[error("the record of the installation {} is not readable", path.display())]
    Record {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{0}")]
    Refused(String),
    #[error("{}: {why}", path.display())]
    Bundle { path: PathBuf, why: String },
}

impl Error {
    pub(crate) fn file(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::File {
            doing,
            path,
            source,
        }
    }
}
