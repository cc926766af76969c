//! A lock on a file belongs to the open file and ends with it, also when the process is killed.

use crate::error::{Doing, Result};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::path::Path;

/// An exclusive lock, held until dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock; blocks the thread.
    pub fn wait(path: &Path) -> Result<FileLock> {
        let file = open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .doing(|| format!("lock {}", path.display()))?;
        Ok(FileLock { _file: file })
    }

    /// Waits for the lock of a folder that exists; nothing is made for it.
    pub fn wait_for_folder(path: &Path) -> Result<FileLock> {
        let file = File::open(path).doing(|| format!("open {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .doing(|| format!("lock {}", path.display()))?;
        Ok(FileLock { _file: file })
    }

    /// The lock, or `None` when somebody else holds it.
    pub fn attempt(path: &Path) -> Result<Option<FileLock>> {
        let file = open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FileLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).doing(|| format!("lock {}", path.display())),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
        .open(path)
        .doing(|| format!("open {}", path.display()))
}
