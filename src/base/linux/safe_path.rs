//! Paths inside a directory that somebody else fills: no symlink and no `..` in it leads outside.

use crate::error::{Doing, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// A directory that is `/` for every path given to it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    pub fn open(path: &Path) -> Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .doing(|| format!("open {}", path.display()))?;
        Ok(Root {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens an existing path with these flags.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.open_with(path, flags, Mode::empty())
    }

    /// Reads a regular file; fails when it is longer than `bytes_max`.
    pub fn read_to_string(&self, path: &Path, bytes_max: u64) -> Result<String> {
        // Non-blocking: a fifo in the place of the file must not hold us.
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let file = File::from(fd);
        let described = || format!("read {} in {}", path.display(), self.path.display());
        let metadata = file.metadata().doing(described)?;
        if !metadata.is_file() || metadata.len() > bytes_max {
            return Err(rustix::io::Errno::INVAL).doing(described);
        }
        let mut text = String::new();
        file.take(bytes_max)
            .read_to_string(&mut text)
            .doing(described)?;
        Ok(text)
    }

    /// Whether the path leads to something, and to what.
    pub fn kind(&self, path: &Path) -> Result<Option<Kind>> {
        let fd = match self.open_at(path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&fd).doing(|| format!("stat {}", path.display()))?;
        let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => Kind::Directory,
            _ => Kind::File,
        };
        Ok(Some(kind))
    }

    /// Makes the directory and what is missing above it; returns it opened as a path.
    pub fn create_dir_all(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let mut walked = PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            walked.push(name);
            self.create_dir(&walked, mode)?;
        }
        self.open_at(&walked, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> Result<()> {
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            return Ok(());
        };
        let parent = self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error).doing(|| format!("make directory {}", path.display())),
        }
    }

    /// Makes an empty file if nothing is there, and what is missing above it.
    pub fn create_file(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent, 0o755)?;
        }
        self.open_with(
            path,
            OFlags::CREATE | OFlags::RDONLY,
            Mode::from_raw_mode(mode),
        )
    }

    fn open_with(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        loop {
            match rustix::fs::openat2(self.fd.as_fd(), relative, flags, mode, inside) {
                // A rename somewhere on the machine made the kernel unsure; it asks to be called again.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                result => {
                    return result
                        .doing(|| format!("open {} in {}", path.display(), self.path.display()));
                }
            }
        }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_in_the_root_cannot_lead_out_of_it() {
        let root = std::env::temp_dir().join(format!("safe-path-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../etc/passwd", root.join("relative")).unwrap();
        let opened = Root::open(&root).unwrap();
        assert_eq!(
            opened.read_to_string(Path::new("/absolute"), 100).unwrap(),
            "inside"
        );
        assert_eq!(
            opened.read_to_string(Path::new("relative"), 100).unwrap(),
            "inside"
        );
        assert!(
            opened.read_to_string(Path::new("relative"), 3).is_err(),
            "longer than allowed"
        );
        opened
            .create_dir_all(Path::new("/a/../b/c"), 0o755)
            .unwrap();
        assert_eq!(
            opened.kind(Path::new("/a/b/c")).unwrap(),
            Some(Kind::Directory)
        );
        std::fs::remove_dir_all(&root).unwrap();
    }
}
