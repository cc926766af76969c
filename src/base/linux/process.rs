//! Processes: who they are beyond a number, and forking where it is safe.

use crate::error::{Doing, Error, Result};
use crate::pid_fd::PidFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

/// A process as it can be found again: a pid alone lies after a reboot, and after the pid was used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_time: u64,
    pub boot_id: String,
}

impl ProcessIdentity {
    pub fn of(pid: i32) -> Result<ProcessIdentity> {
        Ok(ProcessIdentity {
            pid,
            start_time: start_time(pid)?,
            boot_id: boot_id()?,
        })
    }

    /// A descriptor of the process, or `None` when it is gone (its pid may belong to somebody else).
    pub fn open(&self) -> Result<Option<PidFd>> {
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        let Some(found) = PidFd::open(self.pid)? else {
            return Ok(None);
        };
        // Opened first, compared afterwards: the descriptor pins the process whose time is read.
        match start_time(self.pid) {
            Ok(time) if time == self.start_time => Ok(Some(found)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() || error.raw_os_error() == Some(libc::ESRCH) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// When the process started, in clock ticks since boot.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    // The second field is the name in brackets, which may hold anything; fields are counted behind it.
    let behind = text.rsplit_once(") ").map(|(_, behind)| behind);
    let field = behind
        .and_then(|fields| fields.split(' ').nth(19))
        .and_then(|time| time.parse().ok());
    field.ok_or_else(|| Error::other(format!("read {path}"), "no start time in it"))
}

/// A number that changes with each boot of the machine.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(text.trim().to_owned())
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub pid: i32,
    /// The exit code, or 128 + signal.
    pub code: i32,
}

/// Forks and runs `child` in the child, which then ends with its result as exit code; returns the child's pid.
///
/// Refused in a process with more than one thread: the child would own locks that nobody releases.
pub fn fork_child(child: impl FnOnce() -> i32) -> Result<i32> {
    let threads = std::fs::read_dir("/proc/self/task")
        .doing(|| "count threads".to_owned())?
        .count();
    if threads != 1 {
        return Err(Error::other(
            "fork",
            format!("the process has {threads} threads"),
        ));
    }
    // SAFETY: there is one thread, so the child's memory is consistent and it may allocate and take locks.
    match unsafe { nix::unistd::fork() }.doing(|| "fork".to_owned())? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let code = child();
            // SAFETY: _exit runs no destructors and no atexit handlers of the parent's making.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Waits for one child.
pub fn wait_child(pid: i32) -> Result<Exit> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(status) => {
                if let Some(exit) = exit_of(status) {
                    return Ok(exit);
                }
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).doing(|| format!("wait for process {pid}")),
        }
    }
}

/// Any child that has ended, without waiting.
pub fn reap() -> Option<Exit> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return None,
            Ok(status) => {
                if let Some(exit) = exit_of(status) {
                    return Some(exit);
                }
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    match status {
        WaitStatus::Exited(pid, code) => Some(Exit {
            pid: pid.as_raw(),
            code,
        }),
        WaitStatus::Signaled(pid, signal, _) => Some(Exit {
            pid: pid.as_raw(),
            code: 128 + signal as i32,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_again_only_with_the_same_start_time() {
        let own = ProcessIdentity::of(std::process::id().cast_signed()).unwrap();
        assert!(own.open().unwrap().is_some());
        let other = ProcessIdentity {
            start_time: own.start_time + 1,
            ..own.clone()
        };
        assert!(other.open().unwrap().is_none());
        let earlier_boot = ProcessIdentity {
            boot_id: "another".to_owned(),
            ..own
        };
        assert!(earlier_boot.open().unwrap().is_none());
    }
}
