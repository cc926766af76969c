//! Sets of completion indexes, kept as intervals and written as `1,3-5,7`.

use std::fmt;

/// Ordered, disjoint, not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Indexes of `completions` or more, and what cannot be read, are left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut indexes = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else {
                continue;
            };
            if first < completions && first <= last {
                indexes.add(first, last.min(completions - 1));
            }
        }
        indexes
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.add(index, index);
    }

    fn add(&mut self, mut first: i32, mut last: i32) {
        let touches = |&(from, to): &(i32, i32)| {
            from <= last.saturating_add(1) && to >= first.saturating_sub(1)
        };
        for (from, to) in self.0.iter().copied().filter(touches).collect::<Vec<_>>() {
            first = first.min(from);
            last = last.max(to);
        }
        self.0.retain(|&(from, to)| to < first || from > last);
        let at = self.0.partition_point(|&(from, _)| from < first);
        self.0.insert(at, (first, last));
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        self.0
            .iter()
            .any(|&(from, to)| (from..=to).contains(&index))
    }

    pub(super) fn count(&self) -> i32 {
        self.0.iter().map(|&(from, to)| to - from + 1).sum()
    }

    pub(super) fn union(mut self, other: &Self) -> Self {
        for &(from, to) in &other.0 {
            self.add(from, to);
        }
        self
    }

    pub(super) fn count_shared(&self, other: &Self) -> i32 {
        let shared = |&(from, to): &(i32, i32)| -> i32 {
            other
                .0
                .iter()
                .map(|&(start, end)| (to.min(end) - from.max(start) + 1).max(0))
                .sum()
        };
        self.0.iter().map(shared).sum()
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub(super) fn first_missing(&self, count: usize, completions: i32) -> Vec<i32> {
        (0..completions)
            .filter(|index| !self.contains(*index))
            .take(count)
            .collect()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            if at > 0 {
                formatter.write_str(",")?;
            }
            match last - first {
                0 => write!(formatter, "{first}")?,
                1 => write!(formatter, "{first},{last}")?,
                _ => write!(formatter, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_intervals_and_read_back() {
        let mut indexes = Indexes::parse("1,3-5,7", 10);
        assert_eq!(indexes.to_string(), "1,3-5,7");
        indexes.insert(6);
        assert_eq!(indexes.to_string(), "1,3-7");
        indexes.insert(2);
        assert_eq!((indexes.to_string().as_str(), indexes.count()), ("1-7", 7));
        assert_eq!(Indexes::parse("0,1,8-20", 10).to_string(), "0,1,8,9");
        assert_eq!(indexes.first_missing(3, 10), [0, 8, 9]);
        assert_eq!(indexes.count_shared(&Indexes::parse("0-3", 10)), 3);
    }
}
