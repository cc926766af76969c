//! What a store was told, by key and revision, and so what it has to hold after any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv::{Durability, Entry, LeaseId, Revision};

/// What a writer was told is done.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Written(Revision, Durability),
    Leased(LeaseId),
    Compacted(Revision),
}

/// One version of a key; all of it has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) value: Arc<[u8]>,
    pub(crate) create_revision: Revision,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

impl Version {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            value: Arc::clone(&entry.value),
            create_revision: entry.create_revision,
            version: entry.version,
            lease: entry.lease,
        }
    }
}

pub(crate) type Key = Vec<u8>;
/// What a store holds, with the revision of each key's last write.
pub(crate) type Contents = BTreeMap<Key, (Revision, Version)>;

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// `None`: deleted.
    keys: BTreeMap<Key, BTreeMap<Revision, Option<Version>>>,
    revisions: BTreeSet<Revision>,
    /// Those whose end was asked for need not be there.
    pub(crate) ended_leases: BTreeSet<LeaseId>,
}

impl History {
    pub(crate) fn put(&mut self, entry: &Entry) {
        let version = Some(Version::of(entry));
        self.note(entry.key.to_vec(), entry.mod_revision, version);
    }

    pub(crate) fn delete(&mut self, key: Key, revision: Revision) {
        self.note(key, revision, None);
    }

    fn note(&mut self, key: Key, revision: Revision, version: Option<Version>) {
        self.revisions.insert(revision);
        self.keys.entry(key).or_default().insert(revision, version);
    }

    pub(crate) fn newest(&self) -> Revision {
        self.revisions.last().copied().unwrap_or(0)
    }

    pub(crate) fn at(&self, revision: Revision) -> Contents {
        let newest = |(key, versions): (&Key, &BTreeMap<Revision, Option<Version>>)| {
            let (revision, version) = versions.range(..=revision).next_back()?;
            Some((key.clone(), (*revision, version.clone()?)))
        };
        self.keys.iter().filter_map(newest).collect()
    }

    /// The revision, at least this one, after which a store holds exactly this.
    pub(crate) fn revision_of(&self, contents: &Contents, at_least: Revision) -> Option<Revision> {
        let later = self.revisions.range(at_least + 1..).copied();
        std::iter::once(at_least)
            .chain(later)
            .find(|revision| self.at(*revision) == *contents)
    }
}

/// What differs first between what is wanted and what is there.
pub(crate) fn difference(wanted: &Contents, found: &Contents) -> String {
    let keys: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let differs = keys
        .into_iter()
        .find(|key| wanted.get(*key) != found.get(*key));
    let Some(key) = differs else {
        return "nothing differs".to_owned();
    };
    let say = |version: Option<&(Revision, Version)>| match version {
        Some((revision, version)) => format!(
            "revision {revision}, version {}, {} bytes",
            version.version,
            version.value.len()
        ),
        None => "nothing".to_owned(),
    };
    format!(
        "{}: {} wanted, {} found",
        String::from_utf8_lossy(key),
        say(wanted.get(key)),
        say(found.get(key))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_belong_to_the_revision_after_which_nothing_else_happened_to_them() {
        let version = |value: &[u8]| Version {
            value: value.into(),
            create_revision: 2,
            version: 1,
            lease: 0,
        };
        let mut history = History::default();
        history.note(b"a".to_vec(), 2, Some(version(b"1")));
        history.note(b"a".to_vec(), 3, None);
        history.note(b"b".to_vec(), 4, Some(version(b"2")));
        assert_eq!(history.revision_of(&history.at(3), 2), Some(3));
        assert_eq!(history.revision_of(&history.at(2), 3), None);
        let mut torn = history.at(4);
        torn.insert(b"a".to_vec(), (2, version(b"1")));
        assert_eq!(history.revision_of(&torn, 2), None);
    }
}
