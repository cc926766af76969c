//! What is kept about each pod that plugins connected, so that the same plugins disconnect it, whatever the configuration says
//! by then, also after a restart. The folder is of no use to anybody after a reboot but to give addresses back.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use linux::{AtomicFile, Doing};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::configuration::Network;
use crate::error::Error;

const UID_BYTES_MAX: usize = 128;
const EXTENSION: &str = "json";
/// Names the folders that were made for plugins.
const MADE_FOLDERS: &str = "made-folders";

/// A connected pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) network: Network,
    /// Where the plugins were.
    pub(crate) programs: PathBuf,
    /// `CNI_CONTAINERID`
    pub(crate) container_id: String,
    /// `CNI_ARGS`
    pub(crate) arguments: String,
    /// What plugins that ask for it are told about the pod.
    #[serde(default)]
    pub(crate) capabilities: Map<String, Value>,
    /// The last plugin's answer; none while the pod is being connected.
    pub(crate) answer: Option<Value>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The folder with one file a pod.
#[derive(Debug)]
pub(crate) struct Attachments(PathBuf);

impl Attachments {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Error> {
        let made = std::fs::create_dir_all(&folder)
            .doing(|| format!("make the folder {}", folder.display()));
        made.map_err(|source| Error::Kept {
            doing: "open".to_owned(),
            source,
        })?;
        Ok(Self(folder))
    }

    pub(crate) fn uids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == EXTENSION))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect()
    }

    /// What is kept about all pods.
    pub(crate) fn all(&self) -> Vec<Attachment> {
        let uids = self.uids().into_iter();
        uids.filter_map(|pod_uid| self.get(&pod_uid).ok().flatten())
            .collect()
    }

    /// A file that makes no sense counts as none, with a warning: the plugins are then asked by name alone.
    pub(crate) fn get(&self, pod_uid: &str) -> Result<Option<Attachment>, Error> {
        let path = self.path(pod_uid)?;
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.doing(|| format!("read {}", path.display())),
        };
        let text = text.map_err(|source| kept("read", source))?;
        match serde_json::from_slice(&text) {
            Ok(attachment) => Ok(Some(attachment)),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "what is kept about a pod's network makes no sense");
                Ok(None)
            }
        }
    }

    pub(crate) fn put(&self, pod_uid: &str, attachment: &Attachment) -> Result<(), Error> {
        let text = serde_json::to_vec(attachment).unwrap_or_default();
        AtomicFile::private(self.path(pod_uid)?)
            .write(&text)
            .map_err(|source| kept("write", source))
    }

    pub(crate) fn remove(&self, pod_uid: &str) -> Result<(), Error> {
        let path = self.path(pod_uid)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .doing(|| format!("remove {}", path.display()))
                .map_err(|source| kept("remove", source)),
        }
    }

    /// Makes a folder that may be there already, and remembers which ones were made for it.
    pub(crate) fn make_folder(&self, folder: &Path) -> Result<(), Error> {
        let missing = folder.ancestors().take_while(|one| !one.exists());
        let mut made = self.made_folders();
        made.extend(missing.map(Path::to_owned));
        made.sort();
        made.dedup();
        let text = serde_json::to_vec(&made).unwrap_or_default();
        AtomicFile::private(self.0.join(MADE_FOLDERS))
            .write(&text)
            .map_err(|source| kept("write", source))?;
        std::fs::create_dir_all(folder).map_err(|source| Error::System {
            doing: "make the folders of network plugins",
            source,
        })
    }

    /// Removes the folders that were made, but for those that somebody put something into.
    pub(crate) fn remove_made_folders(&self) -> Result<(), Error> {
        for folder in self.made_folders().iter().rev() {
            match std::fs::remove_dir(folder) {
                Ok(()) => {}
                Err(error) if is_kept_or_gone(&error) => {}
                Err(source) => {
                    let doing = "remove the folders of network plugins";
                    return Err(Error::System { doing, source });
                }
            }
        }
        Ok(())
    }

    /// The outer ones first.
    fn made_folders(&self) -> Vec<PathBuf> {
        let text = std::fs::read(self.0.join(MADE_FOLDERS)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn path(&self, pod_uid: &str) -> Result<PathBuf, Error> {
        let is_plain = (1..=UID_BYTES_MAX).contains(&pod_uid.len())
            && pod_uid
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_plain {
            return Err(Error::PodUid(pod_uid.to_owned()));
        }
        Ok(self.0.join(Path::new(pod_uid)).with_extension(EXTENSION))
    }
}

fn is_kept_or_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory
    )
}

fn kept(doing: &str, source: linux::Error) -> Error {
    Error::Kept {
        doing: doing.to_owned(),
        source,
    }
}
