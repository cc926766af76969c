//! How much the writer takes at once: enough that a flush costs little for each write, and no more, so that those who were answered send their next
//! writes while others' are on their way to the disk.

use std::time::Duration;

/// Operations in one batch, unless one transaction has more.
const OPERATIONS_MAX: usize = 2048;
/// A batch is not made smaller than this.
const OPERATIONS_MIN: usize = 64;
/// Work in memory before a flush, as a multiple of the flush.
const WORK_PER_FLUSH: f64 = 8.0;
/// On a slow disk the writer waits for those who were answered last, this part of a flush.
const LINGER_PER_FLUSH: f64 = 0.125;
/// Waiting for less than this costs more than it gains.
const LINGER_MIN: Duration = Duration::from_micros(100);
const LINGER_MAX: Duration = Duration::from_millis(1);
/// How much the last batch counts in what is expected of the next.
const NEWEST_WEIGHT: f64 = 0.125;

/// What the last batches cost.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Seconds of a flush.
    flush: f64,
    /// Seconds of one operation without the flush.
    operation: f64,
    answered: usize,
}

/// How a batch is gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gathering {
    pub(crate) operations_max: usize,
    /// How long to wait until so many commands are there.
    pub(crate) linger: Duration,
    pub(crate) wanted: usize,
}

impl Pace {
    /// A batch of so many operations took `spent`, of which `flush` for the disk, and answered so many callers.
    pub(crate) fn note(
        &mut self,
        operations: usize,
        spent: Duration,
        flush: Duration,
        answered: usize,
    ) {
        self.answered = answered;
        if operations == 0 || flush.is_zero() {
            return;
        }
        let work = spent.saturating_sub(flush).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let operation = work / operations as f64;
        mix(&mut self.operation, operation);
        mix(&mut self.flush, flush.as_secs_f64());
    }

    pub(crate) fn next(&self) -> Gathering {
        let linger = Duration::from_secs_f64(self.flush * LINGER_PER_FLUSH).min(LINGER_MAX);
        Gathering {
            operations_max: self.operations_max(),
            linger: if linger < LINGER_MIN {
                Duration::ZERO
            } else {
                linger
            },
            wanted: self.answered,
        }
    }

    fn operations_max(&self) -> usize {
        if self.operation <= 0.0 {
            return OPERATIONS_MAX;
        }
        let worth = self.flush * WORK_PER_FLUSH / self.operation;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of floats ends at the borders of the integer"
        )]
        let worth = worth as usize;
        worth.clamp(OPERATIONS_MIN, OPERATIONS_MAX)
    }
}

fn mix(average: &mut f64, newest: f64) {
    *average = if *average > 0.0 {
        *average + (newest - *average) * NEWEST_WEIGHT
    } else {
        newest
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(flush_micros: u64) -> Pace {
        let flush = Duration::from_micros(flush_micros);
        let mut pace = Pace::default();
        pace.note(100, flush + Duration::from_millis(1), flush, 30);
        pace
    }

    #[test]
    fn batches_are_as_large_as_their_flush_is_slow() {
        assert_eq!(Pace::default().next().operations_max, OPERATIONS_MAX);
        assert_eq!(pace(10).next().operations_max, OPERATIONS_MIN);
        assert_eq!(pace(200).next().operations_max, 160);
        assert_eq!(pace(50_000).next().operations_max, OPERATIONS_MAX);
    }

    #[test]
    fn only_a_slow_disk_makes_the_writer_wait_for_more() {
        assert_eq!(pace(200).next().linger, Duration::ZERO);
        let slow = pace(4000).next();
        assert_eq!((slow.linger, slow.wanted), (Duration::from_micros(500), 30));
        assert_eq!(pace(1_000_000).next().linger, LINGER_MAX);
    }
}
