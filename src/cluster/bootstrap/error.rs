//! What can go wrong while a data folder is prepared.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the folder {}", path.display())]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: linux::Error },
    #[error("{} is damaged; move it away to have a new one made, or restore it", path.display())]
    Damaged { path: PathBuf, source: pki::Error },
    #[error("--{flag}: cannot read {}; name a file in PEM that this process may read", path.display())]
    KeyFile {
        flag: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("--{flag}: {} cannot be used", path.display())]
    Key {
        flag: &'static str,
        path: PathBuf,
        source: pki::Error,
    },
    #[error("there is no {}: no server ever started with this data folder, or you may not read it", path.display())]
    NoServer { path: PathBuf },
    #[error("the authority {} cannot be used: {why}", path.display())]
    Given { path: PathBuf, why: String },
    #[error(
        "{} has none of server-ca.crt, client-ca.crt and request-header-ca.crt, each with its .key", path.display()
    )]
    NoAuthorities { path: PathBuf },
    #[error(
        "{what} is for a server whose store is in its data folder; this cluster is in the etcd cluster {endpoints} (--datastore-endpoint), whose own tools look after it"
    )]
    StoreElsewhere { what: String, endpoints: String },
    #[error("cannot make {what}")]
    Make {
        what: &'static str,
        source: pki::Error,
    },
}
