//! The one who writes: evaluates what waits on its own state, makes it durable with one flush, then publishes it and answers. Nothing leaves before
//! it is durable, not even the answer of a transaction that only read, because it may have seen what was not durable yet. Relaxed writes are the
//! exception that their caller asked for; their revisions lie below a durable watermark, so that none is used twice.

use std::sync::Arc;
use std::time::Duration;

use kv::{
    CHANGES_PER_REVISION_MAX, Change, Dead, Durability, Error, LeaseId, LeaseStatus, LeaseTimes,
    ReadHistory, Replica, Result, Revision, State, Txn, VersionId, plan_grant,
};
use tokio::sync::oneshot;

use crate::committer::{Committer, LeaseWrite, WriteSet};
use crate::compaction::AutoCompaction;
use crate::counters::Counters;
use crate::options::{Options, RelaxedWrites};
use crate::pace::Pace;
use crate::queue::{Command, Queue};
use crate::relaxed::Relaxed;
use crate::schema::meta;
use crate::space::Space;

/// Rows that a batch of few writes forgets in passing.
const SWEEP_ROWS_BUSY: usize = 100;
/// Fewer rows than these wait for something that has to be written anyway, unless somebody asked: an idle store leaves its disk alone.
const SWEEP_ROWS_WORTH_A_WRITE: usize = 100;
/// Rows that are forgotten at once while nobody waits.
const SWEEP_ROWS_IDLE: usize = 500;
/// Revisions that are reserved for relaxed writes at once.
const WATERMARK_STEP: Revision = 10_000;
/// With fewer reserved revisions left, the next durable batch reserves more.
const WATERMARK_RESERVE: Revision = 1000;
/// Superseded versions (about 80 bytes each in memory) from which on a store that compacts itself does not wait for the span of history to pass.
const HISTORY_VERSIONS_MAX: usize = 500_000;
/// How long the store waits with its own work after a write failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long after the last write the page cache is given back.
const TRIM_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct Writer {
    queue: Arc<Queue>,
    replica: Arc<Replica>,
    history: Arc<dyn ReadHistory>,
    times: Arc<LeaseTimes>,
    counters: Arc<Counters>,
    options: Options,
    committer: Box<dyn Committer>,
    space: Space,
    /// Ahead of what is published by the batch that is being made.
    state: State,
    relaxed: Relaxed,
    auto: AutoCompaction,
    pace: Pace,
    history_versions_max: usize,
    /// So many rows are forgotten although nothing else has to be written.
    sweep_from: usize,
    /// Whether the disk knows that the store is open.
    marked_open: bool,
    trim_at: Option<Duration>,
    retry_at: Option<Duration>,
}

/// What becomes durable with one flush, and who waits for it.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    /// Whether something in it may not stay in memory.
    durable: bool,
    leases: Vec<LeaseWrite>,
    compacted: Option<Revision>,
    dead: Vec<Dead>,
    /// Leases whose time is over, to be put back if they cannot be ended.
    expired: Vec<(LeaseId, Duration)>,
    replies: Vec<Box<dyn FnOnce(Result<()>) + Send>>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.replies.is_empty() && !self.changes_state()
    }

    fn changes_state(&self) -> bool {
        !self.changes.is_empty()
            || !self.leases.is_empty()
            || self.compacted.is_some()
            || !self.dead.is_empty()
    }

    /// Answers once the batch is done: with the batch's error if it failed.
    fn answer<T: Send + 'static>(&mut self, reply: oneshot::Sender<Result<T>>, answer: Result<T>) {
        self.replies.push(Box::new(move |outcome| {
            // Nobody listens if the caller gave up.
            let _given_up = reply.send(outcome.and(answer));
        }));
    }
}

/// What a writer works with.
pub(crate) struct Parts {
    pub(crate) queue: Arc<Queue>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) history: Arc<dyn ReadHistory>,
    pub(crate) times: Arc<LeaseTimes>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) options: Options,
    pub(crate) committer: Box<dyn Committer>,
    pub(crate) space: Space,
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            queue,
            replica,
            history,
            times,
            counters,
            options,
            committer,
            space,
        } = parts;
        let state = (*replica.snapshot()).clone();
        let mut auto = AutoCompaction::new(options.auto_compaction);
        if state.revision() > state.compact_revision().max(kv::FIRST_REVISION) {
            auto.changed(options.clock.monotonic());
        }
        Self {
            queue,
            replica,
            history,
            times,
            counters,
            options,
            committer,
            space,
            state,
            relaxed: Relaxed::default(),
            auto,
            pace: Pace::default(),
            history_versions_max: HISTORY_VERSIONS_MAX,
            sweep_from: SWEEP_ROWS_WORTH_A_WRITE,
            marked_open: false,
            trim_at: None,
            retry_at: None,
        }
    }

    /// Writes down that everything up to the newest revision is compacted, after relaxed writes may have been lost.
    pub(crate) fn mark_jump(&mut self) -> Result<()> {
        let facts = [
            (meta::COMPACT_REVISION, self.state.revision()),
            (meta::REVISION_WATERMARK, 0),
        ];
        self.committer.commit(&WriteSet {
            changes: [&[], &[]],
            leases: &[],
            dead: &[],
            facts: &facts,
        })
    }

    /// Works until the queue is closed; tells whether everything is on disk.
    pub(crate) fn run(mut self) -> Result<()> {
        loop {
            let taken = self.queue.take(self.wait(), self.pace.next());
            let begun = self.now();
            let mut batch = Batch::default();
            for command in taken.commands {
                self.handle(command, &mut batch);
            }
            if !taken.last {
                self.add_due(&mut batch);
            }
            let answered = batch.replies.len();
            self.finish(batch);
            let spent = self.now().saturating_sub(begun);
            let flush = self.committer.last_flush();
            self.pace.note(taken.operations, spent, flush, answered);
            if taken.last {
                return self.close();
            }
        }
    }

    fn now(&self) -> Duration {
        self.options.clock.monotonic()
    }

    /// How long there is nothing to do unless somebody asks; `None`: for ever.
    fn wait(&self) -> Option<Duration> {
        if self.space.is_damaged() {
            return None;
        }
        let now = self.now();
        let dead = self.replica.dead(&self.replica.snapshot(), self.sweep_from);
        let sweep = dead.len() >= self.sweep_from;
        let due = [self.auto.due(), self.relaxed.flush_at(), self.trim_at]
            .into_iter()
            .flatten()
            .min();
        let wait = [
            due.map(|due| due.saturating_sub(now)),
            self.times.next(),
            sweep.then_some(Duration::ZERO),
        ];
        let wait = wait.into_iter().flatten().min()?;
        let paused = self
            .retry_at
            .map_or(Duration::ZERO, |at| at.saturating_sub(now));
        Some(wait.max(paused))
    }

    fn handle(&mut self, command: Command, batch: &mut Batch) {
        if let Err(error) = self.space.admit(&command, &mut *self.committer) {
            return command.refuse(error);
        }
        match command {
            Command::Txn {
                txn,
                durability,
                reply,
            } => {
                if txn.reads_history() && !batch.is_empty() {
                    // What this batch superseded is not in history yet.
                    self.finish(std::mem::take(batch));
                }
                let answer = self.transact(&txn, durability, batch);
                batch.answer(reply, answer);
            }
            Command::Compact { revision, reply } => {
                let answer = self.compact(revision, batch);
                batch.durable |= answer.is_ok();
                self.sweep_from = 1;
                batch.answer(reply, answer);
            }
            Command::Sweep { reply } => {
                batch.durable = true;
                batch.answer(reply, Ok(()));
            }
            Command::LeaseGrant { id, ttl, reply } => {
                let answer = self.grant(id, ttl, batch);
                batch.answer(reply, answer);
            }
            Command::LeaseRevoke { id, reply } => {
                let answer = self.revoke(id, batch);
                batch.answer(reply, answer);
            }
            Command::Maintain { work, reply } => {
                // It works on what is on disk.
                self.finish(std::mem::take(batch));
                let answer = self.space.note(self.committer.maintain(&work));
                batch.answer(reply, answer);
            }
        }
    }

    fn transact(
        &mut self,
        txn: &Txn,
        durability: Durability,
        batch: &mut Batch,
    ) -> Result<kv::TxnResponse> {
        let done = self.state.transact(txn, Some(&*self.history))?;
        let strict = self.options.relaxed_writes == RelaxedWrites::Strict;
        if !done.changes.is_empty() && (strict || durability == Durability::Durable) {
            batch.durable = true;
        }
        batch.changes.extend(done.changes);
        Ok(done.response)
    }

    fn compact(&mut self, revision: Revision, batch: &mut Batch) -> Result<()> {
        self.state.check_compact(revision)?;
        self.state.set_compact_revision(revision);
        batch.compacted = Some(revision);
        Ok(())
    }

    fn grant(&mut self, id: LeaseId, ttl: Duration, batch: &mut Batch) -> Result<LeaseStatus> {
        let (id, ttl) = plan_grant(&self.state, &*self.options.rng, id, ttl)?;
        self.state.add_lease(id, ttl);
        batch.leases.push(LeaseWrite::Grant { id, ttl });
        batch.durable = true;
        Ok(LeaseStatus {
            id,
            granted_ttl: ttl,
            remaining: ttl,
            keys: Vec::new(),
        })
    }

    fn revoke(&mut self, id: LeaseId, batch: &mut Batch) -> Result<Revision> {
        batch.changes.extend(self.state.revoke(id)?);
        while self.state.lease(id).is_some() {
            batch.changes.extend(self.state.revoke(id)?);
        }
        batch.leases.push(LeaseWrite::Revoke { id });
        batch.durable = true;
        Ok(self.state.revision())
    }

    /// Adds what the store does on its own when its time has come.
    fn add_due(&mut self, batch: &mut Batch) {
        let now = self.now();
        if self.space.is_damaged() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        for id in self.times.take_expired() {
            if let Some(lease) = self.state.lease(id) {
                batch.expired.push((id, lease.ttl));
                self.revoke(id, batch).expect("the lease is there");
            }
        }
        let tick = self
            .auto
            .tick(now, self.state.revision(), self.state.compact_revision());
        let crowded = self
            .options
            .auto_compaction
            .and_then(|_| self.replica.crowded(self.history_versions_max));
        // An error means that it is compacted already, and only the sweep is behind.
        if let Some(revision) = tick.max(crowded)
            && self.compact(revision, batch).is_ok()
        {
            tracing::debug!(revision, "the store forgets its history up to here");
        }
        if self.relaxed.flush_at().is_some_and(|at| at <= now) {
            batch.durable = true;
        }
        let rows = match batch.replies.len() {
            0 => SWEEP_ROWS_IDLE,
            // Twice what is written, so that no load makes the rest of a compaction grow.
            _ => SWEEP_ROWS_BUSY.max(2 * batch.changes.len()),
        };
        // By the published revision: a reader may still use what the compaction of this very batch makes obsolete.
        let dead = self.replica.dead(&self.replica.snapshot(), rows);
        if dead.is_empty() {
            // What this batch compacts is swept by the next.
            if batch.compacted.is_none() {
                self.sweep_from = SWEEP_ROWS_WORTH_A_WRITE;
            }
        } else if batch.durable || dead.len() >= self.sweep_from {
            batch.durable = true;
            batch.dead = dead;
        }
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.committer.trim();
        }
    }

    /// Makes a batch durable, publishes it and answers; or takes all of it back.
    fn finish(&mut self, mut batch: Batch) {
        let replies = std::mem::take(&mut batch.replies);
        let outcome = self.make_durable(&batch);
        match &outcome {
            Ok(on_disk_through) if batch.changes_state() => self.publish(&batch, *on_disk_through),
            Ok(_) => {}
            Err(error) => self.take_back(&batch, error),
        }
        let outcome = outcome.map(drop);
        for reply in replies {
            reply(outcome.clone());
        }
    }

    /// Writes what has to be on disk and tells up to which version everything is.
    fn make_durable(&mut self, batch: &Batch) -> Result<VersionId> {
        let revision = self.state.revision();
        let everything = VersionId::new(revision, CHANGES_PER_REVISION_MAX - 1);
        if !batch.durable && self.may_stay_in_memory(batch) {
            let now = self.now();
            // Without it on disk, a store that was killed has some more history than it told.
            self.relaxed.compacted = batch.compacted.or(self.relaxed.compacted);
            return Ok(self.relaxed.keep(&batch.changes, now).unwrap_or(everything));
        }
        let mut facts = Vec::new();
        let compacted = batch.compacted.or(self.relaxed.compacted);
        facts.extend(compacted.map(|revision| (meta::COMPACT_REVISION, revision)));
        if !self.marked_open {
            facts.push((meta::CLEAN_SHUTDOWN, 0));
        }
        let reserves = !batch.durable && !batch.changes.is_empty() || self.relaxed.watermark > 0;
        let watermark = revision + WATERMARK_STEP;
        let reserve = reserves && revision + WATERMARK_RESERVE > self.relaxed.watermark;
        facts.extend(reserve.then_some((meta::REVISION_WATERMARK, watermark)));
        let flush = self.relaxed.flush();
        let begun = self.now();
        let set = WriteSet {
            changes: [&flush.written, &batch.changes],
            leases: &batch.leases,
            dead: &batch.dead,
            facts: &facts,
        };
        let committed = self.space.commit(&mut *self.committer, &set);
        let changes = flush.written.len() + batch.changes.len();
        match &committed {
            Ok(()) => self
                .counters
                .committed(changes, self.now().saturating_sub(begun)),
            Err(_) => self.counters.failed(),
        }
        committed?;
        self.marked_open = true;
        if self.retry_at.take().is_some() {
            tracing::info!("the store can write again");
        }
        self.trim_at = Some(self.now() + TRIM_AFTER);
        self.relaxed.flushed(flush);
        if reserve {
            self.relaxed.watermark = watermark;
        }
        Ok(everything)
    }

    fn may_stay_in_memory(&self, batch: &Batch) -> bool {
        let is_reserved = self.state.revision() <= self.relaxed.watermark;
        batch.changes.is_empty() || (self.relaxed.has_room() && is_reserved)
    }

    fn publish(&mut self, batch: &Batch, on_disk_through: VersionId) {
        self.replica.forget(&mut self.state, &batch.dead);
        self.relaxed.forget(&batch.dead);
        for lease in &batch.leases {
            match *lease {
                LeaseWrite::Grant { id, ttl } => drop(self.times.start(id, ttl)),
                LeaseWrite::Revoke { id } => self.times.stop(id),
            }
        }
        self.replica
            .publish(&self.state, &batch.changes, on_disk_through);
        if !batch.changes.is_empty() {
            self.auto.changed(self.now());
        }
    }

    fn take_back(&mut self, batch: &Batch, error: &Error) {
        if self.retry_at.is_none() {
            tracing::warn!(%error, "the store cannot write");
        }
        self.state = (*self.replica.snapshot()).clone();
        for (id, ttl) in &batch.expired {
            self.times.put_back(*id, *ttl);
        }
        self.retry_at = Some(self.now() + RETRY_AFTER);
    }

    /// Writes down that nothing is missing, and ends the watches.
    fn close(mut self) -> Result<()> {
        let mut outcome = Ok(());
        if self.marked_open {
            let mut facts = vec![
                (meta::CLEAN_SHUTDOWN, meta::SEALED),
                (meta::REVISION_WATERMARK, 0),
            ];
            let compacted = self.relaxed.compacted;
            facts.extend(compacted.map(|revision| (meta::COMPACT_REVISION, revision)));
            let set = WriteSet {
                changes: self.relaxed.everything(),
                leases: &[],
                dead: &[],
                facts: &facts,
            };
            outcome = self.space.commit(&mut *self.committer, &set);
        }
        self.replica.close();
        self.committer.close();
        outcome
    }
}

#[cfg(test)]
mod tests;
