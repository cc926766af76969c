//! What the archives beside the store will bring: a pod waits only for one that may have its image, and that one is imported first.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use crate::reference::Reference;

/// Shared by the import and by those who wait for images.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(watch::Sender<Arriving>);

#[derive(Debug, Default)]
struct Arriving {
    /// The directory has not been looked through yet: anything may be in it.
    is_looking: bool,
    /// By file name.
    archives: BTreeMap<String, Contents>,
    /// How many wait for each image.
    wanted: BTreeMap<Reference, usize>,
}

/// What is known of an archive before it is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    Named(BTreeSet<Reference>),
    /// It would have to be decompressed: anything may be in it.
    Unknown,
}

impl Contents {
    fn may_have(&self, image: &Reference) -> bool {
        match self {
            Self::Named(names) => names.contains(image),
            Self::Unknown => true,
        }
    }

    fn is_known_to_have_any(&self, images: &BTreeMap<Reference, usize>) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| images.contains_key(name)),
            Self::Unknown => false,
        }
    }
}

impl Arriving {
    fn may_bring(&self, image: &Reference) -> bool {
        self.is_looking
            || self
                .archives
                .values()
                .any(|contents| contents.may_have(image))
    }

    /// One that is known to have what is wanted, else one that may, else the first.
    fn next(&self) -> Option<String> {
        let known = || {
            self.archives
                .iter()
                .find(|(_, contents)| contents.is_known_to_have_any(&self.wanted))
        };
        let possible = || {
            self.archives
                .iter()
                .find(|(_, contents)| self.wanted.keys().any(|image| contents.may_have(image)))
        };
        let first = known()
            .or_else(possible)
            .or_else(|| self.archives.iter().next());
        first.map(|(name, _)| name.clone())
    }
}

impl Arrivals {
    /// From now on until `expect`, anything may come.
    pub(crate) fn look(&self) {
        self.0.send_modify(|arriving| arriving.is_looking = true);
    }

    /// These archives will be imported.
    pub(crate) fn expect(&self, archives: BTreeMap<String, Contents>) {
        self.0.send_modify(|arriving| {
            arriving.is_looking = false;
            arriving.archives = archives;
        });
    }

    /// The archive to import now, by what is wanted now.
    pub(crate) fn next(&self) -> Option<String> {
        self.0.borrow().next()
    }

    /// The archive has brought what it had.
    pub(crate) fn done(&self, archive: &str) {
        self.0.send_modify(|arriving| {
            arriving.archives.remove(archive);
        });
    }

    /// One more image is there.
    pub(crate) fn arrived(&self) {
        self.0.send_modify(|_| ());
    }

    /// Nothing comes any more.
    pub(crate) fn end(&self) {
        self.expect(BTreeMap::new());
    }

    /// Whether somebody waits for one of these.
    pub(crate) fn is_wanted(&self, names: &BTreeSet<Reference>) -> bool {
        let arriving = self.0.borrow();
        names.iter().any(|name| arriving.wanted.contains_key(name))
    }

    /// Says that an image is waited for, until the answer is dropped.
    pub(crate) fn want(&self, image: &Reference) -> Wanted<'_> {
        self.0.send_if_modified(|arriving| {
            *arriving.wanted.entry(image.clone()).or_default() += 1;
            // Whoever waits already learns nothing by it.
            false
        });
        Wanted {
            arrivals: self,
            changes: self.0.subscribe(),
            image: image.clone(),
        }
    }
}

/// Somebody waits for an image.
pub(crate) struct Wanted<'a> {
    arrivals: &'a Arrivals,
    changes: watch::Receiver<Arriving>,
    image: Reference,
}

impl Wanted<'_> {
    /// Whether there is anything to wait for.
    pub(crate) fn may_come(&mut self) -> bool {
        self.changes.borrow_and_update().may_bring(&self.image)
    }

    pub(crate) async fn changed(&mut self) {
        // The sender outlives this.
        let _changed = self.changes.changed().await;
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.arrivals.0.send_if_modified(|arriving| {
            if let Some(count) = arriving.wanted.get_mut(&self.image) {
                *count -= 1;
                if *count == 0 {
                    arriving.wanted.remove(&self.image);
                }
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Reference {
        Reference::parse(name).unwrap()
    }

    fn named(names: &[&str]) -> Contents {
        Contents::Named(names.iter().map(|name| image(name)).collect())
    }

    #[test]
    fn what_is_wanted_comes_first_and_nobody_waits_for_what_does_not_come() {
        let arrivals = Arrivals::default();
        assert!(!arrivals.want(&image("x:1")).may_come());
        arrivals.look();
        assert!(arrivals.want(&image("x:1")).may_come());
        arrivals.expect(BTreeMap::from([
            ("a.tar".to_owned(), named(&["a:1"])),
            ("b.tar".to_owned(), named(&["b:1", "c:1"])),
        ]));
        assert_eq!(arrivals.next().as_deref(), Some("a.tar"));
        assert!(!arrivals.want(&image("x:1")).may_come());
        let mut wanted = arrivals.want(&image("c:1"));
        assert!(wanted.may_come());
        assert_eq!(arrivals.next().as_deref(), Some("b.tar"));
        drop(wanted);
        assert_eq!(arrivals.next().as_deref(), Some("a.tar"));
    }

    #[test]
    fn an_archive_of_unknown_contents_comes_before_those_that_have_not_what_is_wanted() {
        let arrivals = Arrivals::default();
        arrivals.expect(BTreeMap::from([
            ("a.tar".to_owned(), named(&["a:1"])),
            ("z.tar.gz".to_owned(), Contents::Unknown),
        ]));
        let mut wanted = arrivals.want(&image("x:1"));
        assert_eq!(arrivals.next().as_deref(), Some("z.tar.gz"));
        arrivals.done("z.tar.gz");
        assert!(!wanted.may_come());
    }
}
