//! A state file is either the old one or the new one, also after a power cut.

use crate::error::{Doing, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes whole files: temporary file, fsync, rename, fsync of the directory.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    mode: u32,
}

impl AtomicFile {
    /// A file that only root reads (mode 0600).
    pub fn private(path: impl Into<PathBuf>) -> AtomicFile {
        AtomicFile {
            path: path.into(),
            mode: 0o600,
        }
    }

    /// A file with permission bits of the caller's choice.
    pub fn with_mode(path: impl Into<PathBuf>, mode: u32) -> AtomicFile {
        AtomicFile {
            path: path.into(),
            mode,
        }
    }

    /// Replaces the file's contents. Writers of one path must not run at the same time.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let directory = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(".temporary");
        let temporary = directory.join(name);
        self.write_temporary(&temporary, bytes)?;
        std::fs::rename(&temporary, &self.path)
            .doing(|| format!("rename {}", temporary.display()))?;
        let opened = File::open(directory).doing(|| format!("open {}", directory.display()))?;
        opened
            .sync_all()
            .doing(|| format!("fsync {}", directory.display()))
    }

    fn write_temporary(&self, temporary: &Path, bytes: &[u8]) -> Result<()> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(self.mode);
        let mut file = options
            .open(temporary)
            .doing(|| format!("create {}", temporary.display()))?;
        // The mode of open is cut by the umask and ignored for a file left by a crash.
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(self.mode))
            .doing(|| format!("chmod {}", temporary.display()))?;
        file.write_all(bytes)
            .doing(|| format!("write {}", temporary.display()))?;
        file.sync_all()
            .doing(|| format!("fsync {}", temporary.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_file_is_private_and_whole_and_leaves_no_temporary() {
        let directory = std::env::temp_dir().join(format!("atomic-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("state");
        let file = AtomicFile::private(&path);
        file.write(b"first, and longer").unwrap();
        file.write(b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
