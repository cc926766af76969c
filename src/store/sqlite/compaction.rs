//! When the store forgets history on its own: at every tick it compacts to the revision of the tick before, so that the history of at least one span
//! stays. Once everything is compacted there is no further tick until something changes.

use std::time::Duration;

use kv::Revision;

#[derive(Debug)]
pub(crate) struct AutoCompaction {
    every: Option<Duration>,
    due: Option<Duration>,
    /// The revision at the last tick.
    previous: Option<Revision>,
}

impl AutoCompaction {
    pub(crate) fn new(every: Option<Duration>) -> Self {
        Self {
            every,
            due: None,
            previous: None,
        }
    }

    /// The store has history that can be forgotten some day.
    pub(crate) fn changed(&mut self, now: Duration) {
        if self.due.is_none() {
            self.due = self.every.map(|every| now + every);
        }
    }

    /// When the next tick is.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The revision to compact to now, if any.
    pub(crate) fn tick(
        &mut self,
        now: Duration,
        revision: Revision,
        compacted: Revision,
    ) -> Option<Revision> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let target = self
            .previous
            .replace(revision)
            .filter(|target| *target > compacted);
        self.due = None;
        if revision > target.unwrap_or(compacted) {
            self.changed(now);
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_history_stays_and_an_idle_store_is_left_alone() {
        let minutes = |minutes| Duration::from_mins(minutes);
        let mut auto = AutoCompaction::new(Some(minutes(5)));
        assert_eq!(auto.due(), None);
        auto.changed(minutes(1));
        auto.changed(minutes(2));
        assert_eq!(auto.tick(minutes(5), 10, -1), None);
        assert_eq!(auto.tick(minutes(6), 10, -1), None);
        assert_eq!(auto.tick(minutes(11), 20, -1), Some(10));
        assert_eq!(auto.tick(minutes(16), 20, 10), Some(20));
        assert_eq!(auto.due(), None);
        auto.changed(minutes(30));
        assert_eq!(auto.tick(minutes(35), 21, 20), None);
        assert_eq!(auto.tick(minutes(40), 21, 20), Some(21));
        assert_eq!(auto.due(), None);
    }
}
