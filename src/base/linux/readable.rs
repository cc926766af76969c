//! A descriptor that a tokio task waits for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::{Doing, Result};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until a pollable object (inotify, pidfd, eventfd, socket) is readable; holds a copy of its descriptor.
///
/// The object itself must be non-blocking, and is read by its owner.
#[derive(Debug)]
pub struct Readable {
    registered: AsyncFd<OwnedFd>,
}

impl Readable {
    /// Needs to be called in a tokio runtime with I/O.
    pub fn new(object: impl AsFd) -> Result<Readable> {
        let copy = object.as_fd().try_clone_to_owned();
        let copy = copy.doing(|| "copy a descriptor".to_owned())?;
        // SAFETY: the copy is owned by the registration alone, so it stays open and the same until that is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) };
        let registered = registered.map_err(|error| error.into_parts().1);
        Ok(Readable {
            registered: registered.doing(|| "register a descriptor with epoll".to_owned())?,
        })
    }

    /// Calls `read` each time the object is readable, until it gives something; cancel safe.
    ///
    /// `read` answers `None` when there was nothing to read after all.
    pub async fn read_with<T>(&self, mut read: impl FnMut() -> Option<T>) -> Result<T> {
        loop {
            let ready = self.registered.readable().await;
            let mut ready = ready.doing(|| "wait for a descriptor".to_owned())?;
            match read() {
                Some(value) => return Ok(value),
                None => ready.clear_ready(),
            }
        }
    }
}

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registered.get_ref().as_fd()
    }
}

impl AsRawFd for Readable {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.registered.get_ref().as_raw_fd()
    }
}
