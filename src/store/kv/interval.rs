//! Which ranges contain a key: distinct ranges sorted by start, with the farthest end of every subtree of the implicit search tree over them.

use std::cmp::Ordering;

use crate::types::KeyRange;

/// The end of a half-open range; the last key has no end after it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Before(Vec<u8>),
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end.as_slice(),
            Self::Never => true,
        }
    }
}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for End {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Before(left), Self::Before(right)) => left.cmp(right),
            (Self::Before(_), Self::Never) => Ordering::Less,
            (Self::Never, Self::Before(_)) => Ordering::Greater,
            (Self::Never, Self::Never) => Ordering::Equal,
        }
    }
}

#[derive(Debug)]
struct Slot<T> {
    start: Vec<u8>,
    end: End,
    value: T,
}

/// A map from ranges to values.
#[derive(Debug)]
pub(crate) struct IntervalMap<T> {
    slots: Vec<Slot<T>>,
    /// For the middle of every subtree, the slot in it that ends last. Made anew at the first look-up after ranges changed.
    farthest: Vec<usize>,
    stale: bool,
}

impl<T> Default for IntervalMap<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            farthest: Vec::new(),
            stale: false,
        }
    }
}

impl<T: Default> IntervalMap<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn get_or_default(&mut self, range: &KeyRange) -> &mut T {
        let (start, end) = bounds(range);
        let at = match self.position(&start, &end) {
            Ok(at) => at,
            Err(at) => {
                self.slots.insert(
                    at,
                    Slot {
                        start,
                        end,
                        value: T::default(),
                    },
                );
                self.stale = true;
                at
            }
        };
        &mut self.slots[at].value
    }

    pub(crate) fn get_mut(&mut self, range: &KeyRange) -> Option<&mut T> {
        let (start, end) = bounds(range);
        let at = self.position(&start, &end).ok()?;
        Some(&mut self.slots[at].value)
    }

    pub(crate) fn remove(&mut self, range: &KeyRange) {
        let (start, end) = bounds(range);
        if let Ok(at) = self.position(&start, &end) {
            self.slots.remove(at);
            self.stale = true;
        }
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.stale = true;
        self.slots.drain(..).map(|slot| slot.value)
    }

    /// The number of every range that contains `key`, to be used with [`Self::value_mut`] until ranges change.
    pub(crate) fn containing(&mut self, key: &[u8], found: &mut Vec<usize>) {
        if self.stale {
            self.farthest = vec![0; self.slots.len()];
            self.rebuild(0, self.slots.len());
            self.stale = false;
        }
        self.search(0, self.slots.len(), key, found);
    }

    pub(crate) fn value_mut(&mut self, number: usize) -> &mut T {
        &mut self.slots[number].value
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn position(&self, start: &[u8], end: &End) -> Result<usize, usize> {
        self.slots.binary_search_by(|slot| {
            slot.start
                .as_slice()
                .cmp(start)
                .then_with(|| slot.end.cmp(end))
        })
    }

    fn rebuild(&mut self, low: usize, high: usize) -> Option<usize> {
        if low >= high {
            return None;
        }
        let middle = usize::midpoint(low, high);
        let mut farthest = middle;
        for other in [self.rebuild(low, middle), self.rebuild(middle + 1, high)]
            .into_iter()
            .flatten()
        {
            if self.slots[other].end > self.slots[farthest].end {
                farthest = other;
            }
        }
        self.farthest[middle] = farthest;
        Some(farthest)
    }

    fn search(&self, low: usize, high: usize, key: &[u8], found: &mut Vec<usize>) {
        if low >= high {
            return;
        }
        let middle = usize::midpoint(low, high);
        if !self.slots[self.farthest[middle]].end.is_after(key) {
            return;
        }
        self.search(low, middle, key, found);
        let slot = &self.slots[middle];
        if slot.start.as_slice() <= key {
            if slot.end.is_after(key) {
                found.push(middle);
            }
            self.search(middle + 1, high, key, found);
        }
    }
}

fn bounds(range: &KeyRange) -> (Vec<u8>, End) {
    let start = range.start.clone();
    let end = match &range.end {
        None => End::Before([&start[..], &[0]].concat()),
        Some(end) if end.is_empty() => End::Never,
        Some(end) => End::Before(end.clone()),
    };
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_that_contains_the_key_is_found_and_no_other() {
        let mut ranges = vec![
            KeyRange::prefix(""),
            KeyRange::from_to("b", ""),
            KeyRange::from_to("c", "a"),
        ];
        for start in ["a", "b", "c", "a/", "a/b", "b/c/d", "zz"] {
            ranges.push(KeyRange::key(start));
            ranges.push(KeyRange::prefix(start));
            ranges.push(KeyRange::from_to(start, "c/"));
        }
        let mut map: IntervalMap<Option<KeyRange>> = IntervalMap::default();
        for range in &ranges {
            *map.get_or_default(range) = Some(range.clone());
        }
        map.remove(&KeyRange::key("zz"));
        for key in [
            "", "a", "a/", "a/b", "a/b/c", "b", "b/c/d", "b/c/d/e", "c", "c.", "c/", "zz", "zzz",
            "\u{ff}",
        ] {
            let mut found = Vec::new();
            map.containing(key.as_bytes(), &mut found);
            let mut found: Vec<_> = found
                .into_iter()
                .filter_map(|at| map.value_mut(at).clone())
                .collect();
            let mut wanted: Vec<_> = ranges
                .iter()
                .filter(|range| range.contains(key.as_bytes()))
                .cloned()
                .collect();
            wanted.retain(|range| *range != KeyRange::key("zz"));
            let order = |left: &KeyRange, right: &KeyRange| {
                (&left.start, &left.end).cmp(&(&right.start, &right.end))
            };
            found.sort_by(order);
            wanted.sort_by(order);
            // Ranges written differently may be the same interval.
            wanted.dedup_by(|left, right| bounds(left) == bounds(right));
            assert_eq!(found.len(), wanted.len(), "{key}");
            assert!(found.iter().all(|range| range.contains(key.as_bytes())));
        }
    }
}
