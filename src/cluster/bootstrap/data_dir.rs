//! Where everything of one instance lies. The layout is k3s' where that has one.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use joining::ServerTokens;
use linux::AtomicFile;

use crate::Error;

pub(crate) const PRIVATE_FOLDER: u32 = 0o700;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The folder as it is; nothing is made.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the folders that are missing.
    pub fn prepare(path: &Path) -> Result<Self, Error> {
        let this = Self(path.to_owned());
        for folder in [
            this.tls(),
            this.credentials(),
            this.0.join("server/db"),
            this.manifests(),
            this.agent(),
            this.static_pods(),
        ] {
            DirBuilder::new()
                .recursive(true)
                .mode(PRIVATE_FOLDER)
                .create(&folder)
                .map_err(|source| Error::Folder {
                    path: folder.clone(),
                    source,
                })?;
        }
        // Pods' users must be able to walk down to their volumes; the private folders below stay private.
        for open in [this.0.clone(), this.agent()] {
            std::fs::set_permissions(&open, Permissions::from_mode(0o711)).map_err(|source| {
                Error::Folder {
                    path: open.clone(),
                    source,
                }
            })?;
        }
        Ok(this)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn tls(&self) -> PathBuf {
        self.0.join("server/tls")
    }

    pub fn credentials(&self) -> PathBuf {
        self.0.join("server/cred")
    }

    pub fn database(&self) -> PathBuf {
        self.0.join("server/db/state.db")
    }

    /// Says which cluster of which datastore this folder belongs to, if its store is not here.
    pub fn datastore(&self) -> PathBuf {
        self.0.join("server/db/datastore")
    }

    /// Errors if the store is not here: `what` is of a store in the data folder.
    pub fn has_own_store(&self, what: &str) -> Result<(), Error> {
        match read(&self.datastore())? {
            None => Ok(()),
            Some(datastore) => Err(Error::StoreElsewhere {
                what: what.to_owned(),
                endpoints: datastore.lines().nth(1).unwrap_or_default().to_owned(),
            }),
        }
    }

    /// The key that Secrets are encrypted with at rest; outside the database.
    pub fn encryption_key(&self) -> PathBuf {
        self.credentials().join("encryption.key")
    }

    /// The password of servers.
    pub fn token(&self) -> PathBuf {
        self.0.join("server/token")
    }

    /// The password of agents.
    pub fn agent_token(&self) -> PathBuf {
        self.0.join("server/agent-token")
    }

    /// A link to the password of agents, where k3s' users look for it.
    pub fn node_token(&self) -> PathBuf {
        self.0.join("server/node-token")
    }

    /// The passwords as they are at any moment.
    pub fn tokens(&self) -> ServerTokens {
        ServerTokens {
            server: self.token(),
            agent: self.agent_token(),
        }
    }

    /// Objects in files here are applied to the cluster.
    pub fn manifests(&self) -> PathBuf {
        self.0.join("server/manifests")
    }

    pub fn agent(&self) -> PathBuf {
        self.0.join("agent")
    }

    pub fn static_pods(&self) -> PathBuf {
        self.agent().join("pod-manifests")
    }

    /// Sixteen hexadecimal digits that name this instance's control groups, links and tables.
    pub fn instance(&self) -> String {
        // FNV-1a: the name must be stable and short, not secret.
        let hash = self
            .0
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{hash:016x}")
    }
}

/// The text of a file, or `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    AtomicFile::private(path)
        .write(text.as_bytes())
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}
