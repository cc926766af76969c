//! How long a container that keeps ending waits before it is started again: 10 s, doubled up to 5 minutes.
//!
//! The wait is counted on the monotonic clock from when the end was seen: the wall clock may jump meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use env::Timestamp;

pub(crate) const BACK_OFF_FIRST: Duration = Duration::from_secs(10);
pub(crate) const BACK_OFF_MAX: Duration = Duration::from_mins(5);

/// The back-offs of one pod's containers, by container name and spec hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackOff {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wait: Duration,
    /// When the container that may end next was started.
    since: Duration,
    /// The end that is waited for, and when it was seen.
    seen: Option<(Timestamp, Duration)>,
}

impl BackOff {
    /// How long to wait still before the container that ended at `ended` may start; `None`: it may start now.
    ///
    /// `now` is monotonic; the first question about an end begins its wait.
    pub(crate) fn wait(
        &mut self,
        key: &str,
        ended: Timestamp,
        now: Duration,
    ) -> Option<(Duration, Duration)> {
        let entry = self.entries.get_mut(key)?;
        let seen = match entry.seen {
            Some((end, seen)) if end == ended => seen,
            _ => now,
        };
        entry.seen = Some((ended, seen));
        if is_forgotten(entry, seen) {
            return None;
        }
        let passed = now.saturating_sub(seen);
        entry
            .wait
            .checked_sub(passed)
            .filter(|left| !left.is_zero())
            .map(|left| (entry.wait, left))
    }

    /// A container that ended is being started again: the next wait is longer.
    pub(crate) fn started_again(&mut self, key: &str, now: Duration) {
        let wait = match self.entries.get(key) {
            Some(entry) if !is_forgotten(entry, entry.seen.map_or(now, |(_, seen)| seen)) => {
                (entry.wait * 2).min(BACK_OFF_MAX)
            }
            _ => BACK_OFF_FIRST,
        };
        let entry = Entry {
            wait,
            since: now,
            seen: None,
        };
        self.entries.insert(key.to_owned(), entry);
    }
}

/// A container that ran for twice the longest wait starts over.
fn is_forgotten(entry: &Entry, ended: Duration) -> bool {
    ended.saturating_sub(entry.since) > BACK_OFF_MAX * 2
}

/// A duration as Go prints it: `10s`, `1m20s`, `1.5s`, `250ms`.
pub(crate) fn go_duration(span: Duration) -> String {
    if span.is_zero() {
        return "0s".to_owned();
    }
    if span < Duration::from_secs(1) {
        let nanos = span.as_nanos();
        return match nanos {
            0..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
            _ => format!("{}ms", decimal(nanos, 1_000_000)),
        };
    }
    let (hours, rest) = (span.as_secs() / 3600, span.as_nanos() % 3_600_000_000_000);
    let (minutes, nanos) = (rest / 60_000_000_000, rest % 60_000_000_000);
    let seconds = decimal(nanos, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, part) = (nanos / unit, nanos % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{part:0width$}")
        .trim_end_matches('0')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn end(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn the_first_restart_is_immediate_then_ten_seconds_doubling_to_five_minutes() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.wait("a", end(0), at(0)), None);
        let mut waits = Vec::new();
        for now in 0..7 {
            back_off.started_again("a", at(now));
            let (wait, _) = back_off.wait("a", end(1), at(now)).expect("a wait");
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_container_that_ran_ten_minutes_starts_over() {
        let mut back_off = BackOff::default();
        back_off.started_again("a", at(0));
        back_off.started_again("a", at(10));
        assert_eq!(back_off.wait("a", end(0), at(700)), None);
        back_off.started_again("a", at(700));
        let wait = back_off.wait("a", end(1), at(700));
        assert_eq!(wait.map(|wait| wait.0), Some(BACK_OFF_FIRST));
    }

    #[test]
    fn no_jump_of_the_wall_clock_shortens_or_lengthens_a_wait() {
        const DAY: i64 = 86_400;
        for jump in [-DAY, 3 * 365 * DAY] {
            let mut back_off = BackOff::default();
            back_off.started_again("a", at(100));
            let ended = end(10 * DAY + jump);
            let waits = [101, 105, 110, 111].map(|now| back_off.wait("a", ended, at(now)));
            let left = waits.map(|wait| wait.map(|(_, left)| left.as_secs()));
            assert_eq!(left, [Some(10), Some(6), Some(1), None], "{jump}");
        }
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        let texts = [10_000, 80_000, 1_500, 250, 3_600_000]
            .map(|millis| go_duration(Duration::from_millis(millis)));
        assert_eq!(texts, ["10s", "1m20s", "1.5s", "250ms", "1h0m0s"]);
    }
}
