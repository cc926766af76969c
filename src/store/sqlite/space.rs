//! What the writer takes and what it refuses: nothing while the store is damaged; nothing that adds to it while it is as large as it may be or the
//! disk is full. Deletes, compaction and the end of leases go on then, at the cost of the ballast if it has to be.

use std::sync::Arc;

use kv::{Alarm, Durability, Error, Operation, Result, Txn};

use crate::alarms::Alarms;
use crate::ballast::Ballast;
use crate::committer::{Committer, WriteSet};
use crate::queue::Command;

/// What a key and a lease cost beside their bytes, as etcd reckons.
const KEY_OVERHEAD_BYTES: u64 = 256;
const LEASE_OVERHEAD_BYTES: u64 = 64;
/// A row never takes more than this many times its cost in pages.
const PAGES_FACTOR: u64 = 2;

#[derive(Debug)]
pub(crate) struct Space {
    alarms: Arc<Alarms>,
    ballast: Ballast,
    quota_bytes: Option<u64>,
    /// At least as much as the pages that hold something: as they were when somebody looked, and what was taken since.
    used_bytes_max: u64,
}

impl Space {
    pub(crate) fn new(alarms: Arc<Alarms>, ballast: Ballast, quota_bytes: Option<u64>) -> Self {
        Self {
            alarms,
            ballast,
            quota_bytes,
            // Nobody looked yet.
            used_bytes_max: u64::MAX,
        }
    }

    /// Nothing may be written, not even what the store does on its own.
    pub(crate) fn is_damaged(&self) -> bool {
        self.alarms.is_raised(Alarm::Corrupt)
    }

    /// Whether a command may be done.
    pub(crate) fn admit(&mut self, command: &Command, committer: &mut dyn Committer) -> Result<()> {
        if self.is_damaged() && !is_read(command) {
            return Err(Error::Corrupt);
        }
        let cost = cost(command);
        if cost == 0 {
            return Ok(());
        }
        if self.alarms.is_raised(Alarm::NoSpace) {
            return Err(Error::NoSpace);
        }
        if self.ballast.is_disk_full() {
            if !self.ballast.has_room_again() {
                return Err(Error::NoSpace);
            }
            tracing::info!("the disk has room again: the store takes writes");
        }
        self.charge(cost, committer)
    }

    /// Raises the alarm if there is not enough left of the quota.
    fn charge(&mut self, cost: u64, committer: &mut dyn Committer) -> Result<()> {
        let Some(quota) = self.quota_bytes else {
            return Ok(());
        };
        let pages = cost.saturating_mul(PAGES_FACTOR);
        if self.used_bytes_max.saturating_add(pages) >= quota {
            self.used_bytes_max = committer.used_bytes()?;
            if self.used_bytes_max.saturating_add(cost) >= quota {
                let why = format!(
                    "{} bytes are in use of a quota of {quota}",
                    self.used_bytes_max
                );
                self.alarms.raise(Alarm::NoSpace, &why);
                return Err(Error::NoSpace);
            }
        }
        self.used_bytes_max = self.used_bytes_max.saturating_add(pages);
        Ok(())
    }

    /// Makes a batch durable; gives the ballast up if the disk is full.
    pub(crate) fn commit(
        &mut self,
        committer: &mut dyn Committer,
        set: &WriteSet<'_>,
    ) -> Result<()> {
        if self.is_damaged() {
            return Err(Error::Corrupt);
        }
        let done = self.note(committer.commit(set));
        if done != Err(Error::NoSpace) {
            return done;
        }
        if !self.ballast.is_disk_full() {
            tracing::warn!(
                "the disk is full: the store takes deletes only, until there is room again"
            );
        }
        if self.ballast.release() {
            return self.note(committer.commit(set));
        }
        done
    }

    /// Raises the alarm if work on the file found damage.
    pub(crate) fn note<T>(&self, done: Result<T>) -> Result<T> {
        if matches!(done, Err(Error::Corrupt)) {
            let why = "a write found a page that is not what was written";
            self.alarms.raise(Alarm::Corrupt, why);
        }
        done
    }
}

fn is_read(command: &Command) -> bool {
    let reads = |operations: &[Operation]| {
        operations
            .iter()
            .all(|operation| matches!(operation, Operation::Range(_)))
    };
    match command {
        Command::Txn { txn, .. } => reads(&txn.success) && reads(&txn.failure),
        _ => false,
    }
}

/// Bytes that a command may add. Nothing for relaxed writes: they are few, replace each other, and can be in memory only for a while; nodes must not
/// seem lost because a disk is full.
fn cost(command: &Command) -> u64 {
    match command {
        Command::Txn {
            durability: Durability::Durable,
            txn,
            ..
        } => puts(txn),
        Command::LeaseGrant { .. } => LEASE_OVERHEAD_BYTES,
        _ => 0,
    }
}

/// Of the branch that puts more, as etcd reckons before it knows which one runs.
fn puts(txn: &Txn) -> u64 {
    let sum = |operations: &[Operation]| -> u64 {
        let one = |operation: &Operation| match operation {
            Operation::Put { key, value, .. } => {
                KEY_OVERHEAD_BYTES + (key.len() + value.len()) as u64
            }
            Operation::Update { key, value, .. } => {
                let value = value.as_ref().map_or(0, |value| value.len());
                KEY_OVERHEAD_BYTES + (key.len() + value) as u64
            }
            Operation::Txn(inner) => puts(inner),
            Operation::Range(_) | Operation::DeleteRange(_) => 0,
        };
        operations.iter().map(one).sum()
    };
    sum(&txn.success).max(sum(&txn.failure))
}
