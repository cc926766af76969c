//! What runs on this machine, read from the kernel and the disk: also true when no server answers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::certificates::certificates;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceState {
    pub data_dir: PathBuf,
    /// The process that holds the data folder.
    pub process: Option<i32>,
    /// Pods that have a sandbox here.
    pub pods: usize,
    /// The one that expires first.
    pub certificate: Option<CertificateState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateState {
    pub path: PathBuf,
    pub expires_unix: i64,
}

pub fn service_state(data_dir: &Path) -> ServiceState {
    let run = data_dir.join("run");
    ServiceState {
        data_dir: data_dir.to_owned(),
        process: holder(&run.join("runtime.lock"))
            .or_else(|| holder(&data_dir.join("server/db/state.db.lock"))),
        pods: fs::read_dir(run.join("sandboxes")).map_or(0, |entries| entries.flatten().count()),
        certificate: first_to_expire(data_dir),
    }
}

/// The process with a lock on a file. Looked up, not tried: a trial could make a server that starts
/// just now give up.
fn holder(path: &Path) -> Option<i32> {
    let metadata = fs::metadata(path).ok()?;
    let (major, minor) = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    let wanted = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let position = fields.iter().position(|field| *field == wanted)?;
        fields.get(position.checked_sub(1)?)?.parse().ok()
    })
}

fn first_to_expire(data_dir: &Path) -> Option<CertificateState> {
    let all = certificates(data_dir).into_iter();
    let first = all.min_by_key(|certificate| certificate.expires_unix)?;
    Some(CertificateState {
        path: first.path,
        expires_unix: first.expires_unix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_and_not_disturbed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("run/sandboxes/one")).unwrap();
        let path = folder.path().join("run/runtime.lock");
        let lock = linux::file_lock::FileLock::attempt(&path)
            .unwrap()
            .expect("free");
        let state = service_state(folder.path());
        assert_eq!(state.process, i32::try_from(std::process::id()).ok());
        assert_eq!(state.pods, 1);
        assert_eq!(state.certificate, None);
        drop(lock);
        assert_eq!(service_state(folder.path()).process, None);
    }
}
