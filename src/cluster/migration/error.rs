//! Why a store is not migrated.

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
    #[error("{} is no database of k3s: {why}", path.display())]
    NotKine { path: PathBuf, why: String },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} is in use by process {process}: stop k3s first", path.display())]
    InUse { path: PathBuf, process: String },
    #[error("{} holds a cluster already: name another folder with --data-dir", .0.display())]
    NotEmpty(PathBuf),
    #[error(
        "{key} is encrypted: let the cluster decrypt it first. On k3s with `k3s secrets-encrypt disable` and \
         `k3s secrets-encrypt reencrypt --force --skip`; elsewhere by an EncryptionConfiguration whose first provider is \
         `identity`, and `kubectl get secrets -A -o json | kubectl replace -f -`"
    )]
    Encrypted { key: String },
    #[error("{key} cannot be taken over: {why}")]
    Object { key: String, why: String },
    #[error("the new store does not hold {key} as it was written; it is removed again")]
    Differs { key: String },
    #[error("the etcd at {endpoints}: {why}")]
    Etcd { endpoints: String, why: String },
    #[error("there is no server's data in {}: name its folder with --data-dir", .0.display())]
    NoServer(PathBuf),
    #[error("{} is there already: name another file, or remove it", .0.display())]
    TargetExists(PathBuf),
    #[error("write {}: {why}", path.display())]
    Write { path: PathBuf, why: String },
    #[error("the snapshot of {} is damaged: {why}; `combo db check` says more", path.display())]
    DamagedStore { path: PathBuf, why: String },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("read the new store")]
    Read(#[from] kv::Error),
    #[error(transparent)]
    SealingKeys(#[from] SealingKeysError),
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
