//! A process by descriptor: signals reach that process and never another with its number.

use crate::error::{Doing, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// Readable (poll, epoll) when the process has ended.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// `None` when there is no such process.
    pub fn open(pid: i32) -> Result<Option<PidFd>> {
        let Some(pid) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(PidFd { fd })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error).doing(|| format!("open process {}", pid.as_raw_nonzero())),
        }
    }

    /// Sends a signal; a process that has ended is fine.
    pub fn signal(&self, number: i32) -> Result<()> {
        let Some(signal) = Signal::from_named_raw(number) else {
            return Err(rustix::io::Errno::INVAL).doing(|| format!("send signal {number}"));
        };
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).doing(|| format!("send signal {number}")),
        }
    }

    /// Blocks until the process has ended; false when `limit` passed before.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut wanted = [PollFd::new(&self.fd, PollFlags::IN)];
        match rustix::event::poll(&mut wanted, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error).doing(|| "wait for a process".to_owned()),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
