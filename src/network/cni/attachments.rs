//! What is kept about each pod that plugins connected, so that the same plugins disconnect it, whatever the configuration says
//! by then, also after a restart. The folder is of no use to anybody after a reboot but to give addresses back.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use linux::{AtomicFile, Doing};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::configuration::Network;
use crate::error::Error;

const UID_BYTES_MAX: usize = 128;
const EXTENSION: &str = "json";

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

fn kept(doing: &str, source: linux::Error) -> Error {
    Error::Kept {
        doing: doing.to_owned(),
        source,
    }
}
