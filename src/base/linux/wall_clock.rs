//! What the kernel knows of its wall clock: whether somebody keeps it right, and when it is set.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::{Doing, Result};

/// In the year 2255, about the last that the kernel can hold: such a timer only ends early, when the clock is set.
const FAR_SECONDS: i64 = 9_000_000_000;

/// Whether the wall clock follows a source of time, by the word of the daemon that sets it.
pub fn is_synchronised() -> bool {
    // SAFETY: `timex` is plain numbers, for which zero is a value; no mode is set, so the kernel only fills it in.
    let (state, told) = unsafe {
        let mut told: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut told), told)
    };
    state >= 0 && state != libc::TIME_ERROR && told.status & libc::STA_UNSYNC == 0
}

/// Tells when the wall clock was set to another time. Readable (poll, epoll) when it was.
#[derive(Debug)]
pub struct ClockSettings(TimerFd);

impl ClockSettings {
    pub fn watch() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags);
        let watching = Self(timer.doing(|| "timerfd_create".to_owned())?);
        watching.arm()?;
        Ok(watching)
    }

    /// Whether the clock was set since this was last asked. Does not block.
    pub fn take(&self) -> Result<bool> {
        match nix::unistd::read(&self.0, &mut [0; 8]) {
            Err(Errno::EAGAIN) => return Ok(false),
            // `Ok`: the far time has come, since somebody set the clock to it.
            Err(Errno::ECANCELED) | Ok(_) => {}
            Err(error) => return Err(error).doing(|| "read a timerfd".to_owned()),
        }
        self.arm()?;
        Ok(true)
    }

    fn arm(&self) -> Result<()> {
        let far = Expiration::OneShot(TimeSpec::seconds(FAR_SECONDS));
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        let armed = self.0.set(far, flags);
        // The clock was set in between: it is armed all the same, and what is read next says so.
        match armed {
            Err(Errno::ECANCELED) => Ok(()),
            other => other.doing(|| "timerfd_settime".to_owned()),
        }
    }
}

impl AsFd for ClockSettings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_while_nobody_sets_the_clock() {
        let settings = ClockSettings::watch().expect("a timer");
        assert!(!settings.take().expect("an answer"));
        assert!(!settings.take().expect("an answer again"));
    }

    #[test]
    fn the_kernel_answers_whether_it_is_synchronised() {
        // Either may be true here; the same twice.
        assert_eq!(is_synchronised(), is_synchronised());
    }
}
