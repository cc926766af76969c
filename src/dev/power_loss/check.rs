//! Whether a store that lost power is whole: it opens, every page and row is right, everything that was acknowledged is there, what is there is
//! what was written, and no revision is used again.

use std::path::Path;

use fastrand::Rng;
use kv::{Durability, Entry, KeyRange, Kv as _, LeaseId, Operation, RangeRequest, Revision, Txn};
use sqlite::SqliteKv;

use crate::history::{Contents, History, Told, Version, difference};
use crate::workload::{file, options};

/// The sum of what a writer was told before the power went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acknowledged {
    pub(crate) count: usize,
    /// The newest revision of a durable write.
    durable: Revision,
    /// The newest revision of any write.
    any: Revision,
    compacted: Revision,
    leases: Vec<LeaseId>,
}

impl Acknowledged {
    /// A store that was found with writes up to a revision is known to hold them.
    pub(crate) fn since(found: Revision) -> Self {
        Self {
            durable: found,
            any: found,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, told: &Told) {
        self.count += 1;
        match *told {
            Told::Written(revision, durability) => {
                self.any = self.any.max(revision);
                if durability == Durability::Durable {
                    self.durable = self.durable.max(revision);
                }
            }
            Told::Leased(lease) => self.leases.push(lease),
            Told::Compacted(revision) => self.compacted = self.compacted.max(revision),
        }
    }
}

/// What is wrong with the store in `folder`; nothing if there is nothing.
pub(crate) async fn problem(
    folder: &Path,
    history: &History,
    told: &Acknowledged,
    rng: &mut Rng,
) -> Option<String> {
    look(folder, history, told, rng).await.err()
}

async fn look(
    folder: &Path,
    history: &History,
    told: &Acknowledged,
    rng: &mut Rng,
) -> Result<(), String> {
    if !file(folder).exists() {
        if told.count == 0 {
            return Ok(());
        }
        // It was flushed with the first acknowledged write.
        return Err("the database's file is gone".to_owned());
    }
    let store = open(folder)?;
    let checked = sqlite::check_store(&file(folder), Vec::new()).map_err(say)?;
    if let Some(problem) = checked.problems.first() {
        return Err(format!("the integrity check says: {problem}"));
    }
    let found = contents(&store, None).await?;
    let revision = matching(history, told, &found)?;
    let status = store.status().await.map_err(say)?;
    if status.revision < told.any.max(revision) {
        return Err(format!(
            "revision {} is below {}",
            status.revision, told.any
        ));
    }
    if status.compact_revision < told.compacted {
        let forgotten = status.compact_revision;
        return Err(format!(
            "compacted to {forgotten}, not to {}",
            told.compacted
        ));
    }
    leases(&store, history, told).await?;
    if status.compact_revision < revision {
        let older = rng.i64(status.compact_revision.max(1)..revision);
        let then = contents(&store, Some(older)).await?;
        let wanted = history.at(older);
        if then != wanted {
            return Err(format!(
                "at revision {older}: {}",
                difference(&wanted, &then)
            ));
        }
    }
    goes_on(folder, store, told.any.max(revision), found).await
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn open(folder: &Path) -> Result<std::sync::Arc<SqliteKv>, String> {
    let opened = SqliteKv::open(&file(folder), options());
    opened.map_err(|error| format!("it does not open: {:#}", anyhow::Error::new(error)))
}

/// The revision whose contents these are.
fn matching(history: &History, told: &Acknowledged, found: &Contents) -> Result<Revision, String> {
    let matching = history.revision_of(found, told.durable);
    matching.ok_or_else(|| {
        let difference = difference(&history.at(told.durable), found);
        format!(
            "{} keys, not those of revision {} or a later one: {difference}",
            found.len(),
            told.durable
        )
    })
}

async fn leases(store: &SqliteKv, history: &History, told: &Acknowledged) -> Result<(), String> {
    let there = store.leases().await.map_err(say)?;
    let lost = told
        .leases
        .iter()
        .find(|lease| !there.contains(lease) && !history.ended_leases.contains(lease));
    match lost {
        Some(lease) => Err(format!("the lease {lease:x} is lost")),
        None => Ok(()),
    }
}

/// The next write has a new revision, and is there with all the rest after another start.
async fn goes_on(
    folder: &Path,
    store: std::sync::Arc<SqliteKv>,
    above: Revision,
    mut wanted: Contents,
) -> Result<(), String> {
    let operation = Operation::Put {
        key: b"/after".to_vec(),
        value: b"power is back".as_slice().into(),
        lease: 0,
    };
    let txn = Txn {
        success: vec![operation],
        ..Txn::default()
    };
    let done = store.txn(txn, Durability::Durable).await;
    let revision = done
        .map_err(|error| format!("the next write: {error}"))?
        .revision;
    if revision <= above {
        return Err(format!(
            "revision {revision} is used again: {above} was seen"
        ));
    }
    store.close().await.map_err(say)?;
    drop(store);
    let store = open(folder)?;
    let mut found = contents(&store, None).await?;
    let after = found.remove(b"/after".as_slice());
    wanted.remove(b"/after".as_slice());
    if after.map(|(revision, _)| revision) != Some(revision) || found != wanted {
        return Err(format!(
            "after another start: {}",
            difference(&wanted, &found)
        ));
    }
    store.close().await.map_err(say)
}

/// Everything a store holds, now or at a revision.
pub(crate) async fn contents(
    store: &SqliteKv,
    revision: Option<Revision>,
) -> Result<Contents, String> {
    let request = RangeRequest {
        revision,
        ..RangeRequest::newest(KeyRange::from_to("\0", ""))
    };
    let found = store.range(request).await;
    let found = found.map_err(|error| format!("it cannot be read: {error}"))?;
    let pair = |entry: &std::sync::Arc<Entry>| {
        let version = Version::of(entry);
        (entry.key.to_vec(), (entry.mod_revision, version))
    };
    Ok(found.entries.iter().map(pair).collect())
}
