//! Changes of files and directories as events.

use crate::error::{Doing, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

/// A set of watches. Readable (poll, epoll) when something happened.
#[derive(Debug)]
pub struct Watches {
    inotify: Inotify,
}

/// One change. The name is that of the entry of a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub name: Option<std::ffi::OsString>,
    /// The kernel's queue overflowed: look at everything again.
    pub overflow: bool,
}

impl Watches {
    pub fn new() -> Result<Watches> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        Ok(Watches {
            inotify: Inotify::init(flags).doing(|| "inotify_init".to_owned())?,
        })
    }

    /// Watches entries of a directory that are written, moved in or out, made or deleted.
    pub fn watch_directory(&self, path: &Path) -> Result<()> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        self.inotify
            .add_watch(path, flags)
            .doing(|| format!("watch {}", path.display()))?;
        Ok(())
    }

    /// Watches a file that grows, and its being moved or deleted.
    pub fn watch_file(&self, path: &Path) -> Result<()> {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_CLOSE_WRITE;
        self.inotify
            .add_watch(path, flags)
            .doing(|| format!("watch {}", path.display()))?;
        Ok(())
    }

    /// The changes so far; empty when there are none. Does not block.
    pub fn take(&self) -> Result<Vec<Change>> {
        match self.inotify.read_events() {
            Ok(events) => Ok(events
                .into_iter()
                .map(|event| Change {
                    overflow: event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW),
                    name: event.name,
                })
                .collect()),
            Err(nix::errno::Errno::EAGAIN) => Ok(Vec::new()),
            Err(error) => Err(error).doing(|| "read inotify events".to_owned()),
        }
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Watches {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}
