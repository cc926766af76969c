//! When leases end, by the monotonic clock alone: a jump of the wall clock or a suspended machine neither ends nor prolongs one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Rng};
use parking_lot::Mutex;

use crate::state::State;
use crate::types::{Error, LeaseId, Result};

/// etcd's minimum with its default election timeout: a shorter TTL is raised to it.
pub const LEASE_TTL_MIN: Duration = Duration::from_secs(2);
/// etcd's maximum, 9,000,000,000 seconds.
pub const LEASE_TTL_MAX: Duration = Duration::from_hours(2_500_000);
/// Leases that end in one go at most, as in etcd.
pub const EXPIRED_LEASES_MAX: usize = 1000;

/// The deadlines of all leases.
#[derive(Debug)]
pub struct LeaseTimes {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    leases: BTreeMap<LeaseId, Timed>,
    by_deadline: BTreeSet<(Duration, LeaseId)>,
}

#[derive(Debug, Clone, Copy)]
struct Timed {
    deadline: Duration,
    ttl: Duration,
}

impl LeaseTimes {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
        }
    }

    /// Starts a lease, or starts it again in full; tells whether it is the next to end.
    pub fn start(&self, id: LeaseId, ttl: Duration) -> bool {
        let deadline = self.clock.monotonic() + ttl;
        let mut inner = self.inner.lock();
        if let Some(old) = inner.leases.insert(id, Timed { deadline, ttl }) {
            inner.by_deadline.remove(&(old.deadline, id));
        }
        inner.by_deadline.insert((deadline, id));
        inner.by_deadline.first() == Some(&(deadline, id))
    }

    /// Gives a lease its full time again and returns it.
    pub fn keep_alive(&self, id: LeaseId) -> Result<Duration> {
        let ttl = self
            .inner
            .lock()
            .leases
            .get(&id)
            .ok_or(Error::LeaseNotFound)?
            .ttl;
        self.start(id, ttl);
        Ok(ttl)
    }

    pub fn stop(&self, id: LeaseId) {
        let mut inner = self.inner.lock();
        if let Some(old) = inner.leases.remove(&id) {
            inner.by_deadline.remove(&(old.deadline, id));
        }
    }

    pub fn remaining(&self, id: LeaseId) -> Option<Duration> {
        let deadline = self.inner.lock().leases.get(&id)?.deadline;
        Some(deadline.saturating_sub(self.clock.monotonic()))
    }

    /// All leases, in the order in which they end.
    pub fn ids(&self) -> Vec<LeaseId> {
        let inner = self.inner.lock();
        inner.by_deadline.iter().map(|(_, id)| *id).collect()
    }

    /// Time until the first lease ends; `None` if there is no lease.
    pub fn next(&self) -> Option<Duration> {
        let (deadline, _) = *self.inner.lock().by_deadline.first()?;
        Some(deadline.saturating_sub(self.clock.monotonic()))
    }

    /// Notes a lease whose time is over but which could not be ended yet.
    pub fn put_back(&self, id: LeaseId, ttl: Duration) {
        let deadline = self.clock.monotonic();
        let mut inner = self.inner.lock();
        inner.leases.insert(id, Timed { deadline, ttl });
        inner.by_deadline.insert((deadline, id));
    }

    /// Takes out the leases whose time is over, at most [`EXPIRED_LEASES_MAX`]. From then on they cannot be kept alive; whoever cannot end them puts
    /// them back with [`Self::put_back`].
    pub fn take_expired(&self) -> Vec<LeaseId> {
        let now = self.clock.monotonic();
        let mut inner = self.inner.lock();
        let mut expired = Vec::new();
        while let Some(&(deadline, id)) = inner.by_deadline.first()
            && deadline <= now
            && expired.len() < EXPIRED_LEASES_MAX
        {
            inner.by_deadline.pop_first();
            inner.leases.remove(&id);
            expired.push(id);
        }
        expired
    }
}

/// The id and time to live of a lease to be granted: the asked-for id or a free one, the TTL raised to the minimum.
pub fn plan_grant(
    state: &State,
    rng: &dyn Rng,
    id: LeaseId,
    ttl: Duration,
) -> Result<(LeaseId, Duration)> {
    if ttl > LEASE_TTL_MAX {
        return Err(Error::LeaseTtlTooLarge);
    }
    let ttl = ttl.max(LEASE_TTL_MIN);
    if id != 0 {
        return if state.lease(id).is_some() {
            Err(Error::LeaseExists)
        } else {
            Ok((id, ttl))
        };
    }
    loop {
        let id = (rng.next_u64() >> 1).cast_signed();
        if id != 0 && state.lease(id).is_none() {
            return Ok((id, ttl));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::{ManualClock, Timestamp};

    #[test]
    fn keeping_alive_gives_the_full_time_again() {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let times = LeaseTimes::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let seconds = Duration::from_secs;
        assert!(times.start(1, seconds(10)));
        assert!(times.start(2, seconds(5)));
        clock.advance(seconds(4));
        assert_eq!(times.keep_alive(2), Ok(seconds(5)));
        assert_eq!(times.next(), Some(seconds(5)));
        clock.advance(seconds(6));
        assert_eq!(times.remaining(1), Some(Duration::ZERO));
        assert_eq!(times.take_expired(), vec![2, 1]);
        assert_eq!(times.keep_alive(2), Err(Error::LeaseNotFound));
    }
}
