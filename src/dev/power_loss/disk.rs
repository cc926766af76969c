//! A disk in memory that notes every write and flush, and what a power cut may leave of it.

use std::collections::BTreeMap;

use fastrand::Rng;

pub(crate) const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;

/// What a disk was told, in order, and what the writer was told meanwhile.
#[derive(Debug)]
pub(crate) enum Entry<A> {
    Write {
        at: usize,
        data: Vec<u8>,
    },
    /// Everything before it is on the medium.
    Flush,
    /// The writer knows that this is durable.
    Acknowledged(A),
}

/// How a power cut treats what no flush has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing of it reached the medium.
    Worst,
    /// All of it did, in order.
    Prefix,
    /// A part of it did, in any order.
    Reordered,
    /// A part of it did, and of some writes only some sectors.
    Torn,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Worst, Kind::Prefix, Kind::Reordered, Kind::Torn];

/// Contents that are durable, and pages written over them.
#[derive(Debug)]
pub(crate) struct Disk<A> {
    medium: Vec<u8>,
    over: BTreeMap<usize, Box<[u8; PAGE_BYTES]>>,
    /// `None`: nobody takes notes.
    log: Option<Vec<Entry<A>>>,
}

impl<A> Disk<A> {
    pub(crate) fn new(medium: Vec<u8>) -> Self {
        assert!(
            medium.len().is_multiple_of(PAGE_BYTES),
            "a disk has whole pages"
        );
        Self {
            medium,
            over: BTreeMap::new(),
            log: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.medium.len()
    }

    pub(crate) fn read(&self, at: usize, length: usize) -> Vec<u8> {
        let end = (at + length).min(self.len());
        let mut data = self.medium[at.min(end)..end].to_vec();
        let pages = at / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
        for (page, bytes) in self.over.range(pages) {
            let begins = page * PAGE_BYTES;
            let (from, to) = (begins.max(at), (begins + PAGE_BYTES).min(end));
            data[from - at..to - at].copy_from_slice(&bytes[from - begins..to - begins]);
        }
        data
    }

    /// Tells whether the disk has such a place.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        if at + data.len() > self.len() {
            return false;
        }
        self.lay_over(at, data);
        if let Some(log) = &mut self.log {
            let data = data.to_vec();
            log.push(Entry::Write { at, data });
        }
        true
    }

    pub(crate) fn flush(&mut self) {
        if let Some(log) = &mut self.log {
            log.push(Entry::Flush);
        }
    }

    pub(crate) fn acknowledge(&mut self, what: A) {
        if let Some(log) = &mut self.log {
            log.push(Entry::Acknowledged(what));
        }
    }

    /// Takes notes from now on.
    pub(crate) fn record(&mut self) {
        self.log = Some(Vec::new());
    }

    /// The notes, after which nobody takes any.
    pub(crate) fn recorded(&mut self) -> Vec<Entry<A>> {
        self.log.take().unwrap_or_default()
    }

    /// All of it as it is now.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.read(0, self.len())
    }

    /// Takes back what was written since the last [`Self::settle`].
    pub(crate) fn take_back(&mut self) {
        self.over.clear();
    }

    /// Makes a write part of what [`Self::take_back`] goes back to.
    pub(crate) fn settle(&mut self, at: usize, data: &[u8]) {
        self.medium[at..at + data.len()].copy_from_slice(data);
    }

    fn lay_over(&mut self, at: usize, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let place = at + done;
            let (page, within) = (place / PAGE_BYTES, place % PAGE_BYTES);
            let length = (PAGE_BYTES - within).min(data.len() - done);
            let medium = &self.medium[page * PAGE_BYTES..][..PAGE_BYTES];
            let copy = || Box::new(medium.try_into().expect("a page is a page"));
            let bytes: &mut [u8; PAGE_BYTES] = self.over.entry(page).or_insert_with(copy);
            bytes[within..within + length].copy_from_slice(&data[done..done + length]);
            done += length;
        }
    }

    /// Writes what a power cut of this kind leaves of the writes that no flush has covered.
    pub(crate) fn cut(&mut self, kind: Kind, cached: &[(usize, &[u8])], rng: &mut Rng) {
        let mut left: Vec<_> = match kind {
            Kind::Worst => Vec::new(),
            Kind::Prefix => cached.to_vec(),
            Kind::Reordered | Kind::Torn => cached.iter().copied().filter(|_| rng.bool()).collect(),
        };
        if matches!(kind, Kind::Reordered | Kind::Torn) {
            rng.shuffle(&mut left);
        }
        for (at, data) in left {
            if kind == Kind::Torn && rng.bool() {
                for (number, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    if rng.bool() {
                        self.lay_over(at + number * SECTOR_BYTES, sector);
                    }
                }
            } else {
                self.lay_over(at, data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_across_pages_are_read_back_and_taken_back() {
        let mut disk: Disk<()> = Disk::new(vec![0; 4 * PAGE_BYTES]);
        assert!(disk.write(PAGE_BYTES - 2, &[1, 2, 3, 4]));
        assert_eq!(disk.read(PAGE_BYTES - 3, 6), [0, 1, 2, 3, 4, 0]);
        disk.take_back();
        assert_eq!(disk.image(), vec![0; 4 * PAGE_BYTES]);
        assert!(!disk.write(4 * PAGE_BYTES - 1, &[1, 2]));
    }

    #[test]
    fn a_cut_leaves_nothing_all_or_a_part() {
        let mut rng = Rng::with_seed(1);
        let data = [7; 8 * SECTOR_BYTES];
        let cached: Vec<_> = (0..3).map(|page| (page * PAGE_BYTES, &data[..])).collect();
        let mut count = |kind| {
            let mut disk: Disk<()> = Disk::new(vec![0; 4 * PAGE_BYTES]);
            disk.cut(kind, &cached, &mut rng);
            let whole = |sector: &&[u8]| sector[0] == 7;
            disk.image().chunks(SECTOR_BYTES).filter(whole).count()
        };
        assert_eq!(count(Kind::Worst), 0);
        assert_eq!(count(Kind::Prefix), 24);
        let torn: Vec<_> = (0..50).map(|_| count(Kind::Torn)).collect();
        assert!(torn.iter().any(|sectors| sectors % 8 != 0), "{torn:?}");
    }
}
