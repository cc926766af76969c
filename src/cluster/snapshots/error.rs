//! Why a snapshot is not taken, read or restored.

use std::io;
use std::path::{Path, PathBuf};

use sqlite::{OpenError, SealingKeysError};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    SealingKeys(#[from] SealingKeysError),
    #[error("{} is no snapshot: {why}", path.display())]
    NotASnapshot { path: PathBuf, why: String },
    #[error(
        "the snapshot {} has format {found}, and this program knows only up to {known}: restore it with a newer version",
        path.display()
    )]
    NewerFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("the snapshot {} is cut or changed: {why}; nothing was written", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the store is damaged, so no snapshot is taken: {0}; `combo db check` says more")]
    DamagedStore(String),
    #[error("there is no server's data in {}: name its folder with --data-dir", .0.display())]
    NoServer(PathBuf),
    #[error(
        "the keys in {} are wrapped with a passphrase: name its file with --passphrase-file",
        .0.display()
    )]
    PassphraseMissing(PathBuf),
    #[error("the passphrase does not open the keys in {}", .0.display())]
    WrongPassphrase(PathBuf),
    #[error("the passphrase in {} {why}", path.display())]
    Passphrase { path: PathBuf, why: &'static str },
    #[error("a server runs on {}: stop it first", .0.display())]
    Running(PathBuf),
    #[error(
        "{} holds a cluster already: name another folder with --data-dir, or set that cluster aside with --replace",
        .0.display()
    )]
    NotEmpty(PathBuf),
    #[error("{doing} {place}: {why}")]
    Bucket {
        doing: &'static str,
        place: String,
        why: String,
    },
    #[error("{0}")]
    TooMuch(String),
    #[error("there is no snapshot {name} in {}; `combo snapshot list` lists those that there are", folder.display())]
    Unknown { name: String, folder: PathBuf },
}

impl Error {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path: path.clone(),
            source,
        }
    }
}
