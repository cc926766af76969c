//! The writer with a disk that fails when it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};

use env::{Clock, ManualClock, Timestamp};
use kv::{Entry, Loader, Operation, TxnResponse};
use parking_lot::Mutex;

use super::*;
use crate::alarms::Alarms;
use crate::ballast::Ballast;
use crate::committer::Maintenance;
use crate::relaxed::RELAXED_AGE_MAX;

/// What was committed: rows, leases, forgotten rows, facts.
type Commit = (usize, usize, usize, Vec<(&'static str, i64)>);

#[derive(Clone, Default)]
struct Disk {
    failures: Arc<AtomicUsize>,
    commits: Arc<Mutex<Vec<Commit>>>,
}

impl Committer for Disk {
    fn commit(&mut self, set: &WriteSet<'_>) -> Result<()> {
        let fails = |left: usize| left.checked_sub(1);
        if self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
            .is_ok()
        {
            return Err(Error::Io("no luck".into()));
        }
        let rows = set.changes.iter().map(|changes| changes.len()).sum();
        self.commits
            .lock()
            .push((rows, set.leases.len(), set.dead.len(), set.facts.to_vec()));
        Ok(())
    }

    fn maintain(&mut self, _: &Maintenance) -> Result<usize> {
        Ok(0)
    }

    fn used_bytes(&mut self) -> Result<u64> {
        Ok(0)
    }

    fn trim(&mut self) {}

    fn close(self: Box<Self>) {}
}

#[derive(Debug)]
struct NoHistory;

impl ReadHistory for NoHistory {
    fn read(&self, _: &[(VersionId, Arc<[u8]>)]) -> Result<Vec<Arc<Entry>>> {
        Err(Error::Corrupt)
    }
}

fn nothing_is_scarce() -> Space {
    let nowhere = std::path::Path::new("/nonexistent/state.db");
    let alarms = Alarms::load(nowhere).expect("none is raised");
    Space::new(Arc::new(alarms), Ballast::open(nowhere, 0), None)
}

fn writer() -> (Writer, Disk, Arc<ManualClock>) {
    let disk = Disk::default();
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    let options = Options {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..Options::default()
    };
    let writer = Writer::new(Parts {
        queue: Queue::new(),
        replica: Replica::new(Loader::default().finish(1, -1), None),
        history: Arc::new(NoHistory),
        times: Arc::new(LeaseTimes::new(Arc::clone(&options.clock))),
        counters: Arc::default(),
        options,
        committer: Box::new(disk.clone()),
        space: nothing_is_scarce(),
    });
    (writer, disk, clock)
}

impl Writer {
    /// One round of the writer with these commands.
    fn round(&mut self, commands: Vec<Command>) {
        let mut batch = Batch::default();
        for command in commands {
            self.handle(command, &mut batch);
        }
        self.add_due(&mut batch);
        self.finish(batch);
    }

    /// Works off everything that is due at once.
    fn rest(&mut self) {
        while self.wait() == Some(Duration::ZERO) {
            self.round(Vec::new());
        }
    }

    fn put(&mut self, key: &str, lease: LeaseId, durability: Durability) -> Result<TxnResponse> {
        let (reply, mut answer) = oneshot::channel();
        let put = Operation::Put {
            key: key.into(),
            value: Arc::from(&b"v"[..]),
            lease,
        };
        self.round(vec![Command::Txn {
            txn: Txn {
                success: vec![put],
                ..Txn::default()
            },
            durability,
            reply,
        }]);
        answer.try_recv().expect("an answer")
    }

    fn lease(&mut self, id: LeaseId) {
        let (reply, mut answer) = oneshot::channel();
        self.round(vec![Command::LeaseGrant {
            id,
            ttl: Duration::from_mins(1),
            reply,
        }]);
        answer.try_recv().expect("an answer").expect("a lease");
    }
}

#[test]
fn a_failed_write_leaves_no_trace_and_its_revision_to_the_next() {
    let (mut writer, disk, _clock) = writer();
    writer.put("a", 0, Durability::Durable).unwrap();
    disk.failures.store(1, Ordering::Relaxed);
    assert_eq!(
        writer.put("b", 0, Durability::Durable).unwrap_err(),
        Error::Io("no luck".into())
    );
    assert!(writer.replica.snapshot().entry(b"b").is_none());
    assert_eq!(writer.put("c", 0, Durability::Durable).unwrap().revision, 3);
    assert_eq!(writer.replica.snapshot().keys(), 2);
}

#[test]
fn a_lease_that_cannot_be_ended_is_ended_a_second_later() {
    let (mut writer, disk, clock) = writer();
    writer.lease(7);
    writer.put("a", 7, Durability::Durable).unwrap();
    clock.advance(Duration::from_mins(1));
    disk.failures.store(1, Ordering::Relaxed);
    writer.round(Vec::new());
    assert!(writer.replica.snapshot().entry(b"a").is_some());
    assert_eq!(writer.wait(), Some(RETRY_AFTER));
    clock.advance(RETRY_AFTER);
    writer.round(Vec::new());
    assert!(writer.replica.snapshot().entry(b"a").is_none() && writer.times.next().is_none());
}

#[test]
fn relaxed_writes_reserve_revisions_once_and_reach_the_disk_after_ten_minutes() {
    let (mut writer, disk, clock) = writer();
    writer.put("a", 0, Durability::Relaxed).unwrap();
    let reserved = vec![
        (meta::CLEAN_SHUTDOWN, 0),
        (meta::REVISION_WATERMARK, 2 + WATERMARK_STEP),
    ];
    assert_eq!(*disk.commits.lock(), vec![(1, 0, 0, reserved)]);
    for _ in 0..20 {
        writer.put("a", 0, Durability::Relaxed).unwrap();
    }
    assert_eq!(
        (
            disk.commits.lock().len(),
            writer.replica.snapshot().revision()
        ),
        (1, 22)
    );
    clock.advance(RELAXED_AGE_MAX);
    writer.round(Vec::new());
    assert_eq!(disk.commits.lock()[1].0, 1);
}

#[test]
fn relaxed_writes_that_others_took_the_place_of_are_written_at_a_clean_stop() {
    let (mut writer, disk, _clock) = writer();
    writer.put("a", 0, Durability::Relaxed).unwrap();
    for _ in 0..20 {
        writer.put("a", 0, Durability::Relaxed).unwrap();
    }
    writer.put("b", 0, Durability::Durable).unwrap();
    writer.put("a", 0, Durability::Relaxed).unwrap();
    assert_eq!(disk.commits.lock()[1].0, 2);
    writer.close().unwrap();
    // Nineteen that were left out, and one that waited.
    assert_eq!(disk.commits.lock()[2].0, 20);
}

#[test]
fn an_idle_store_forgets_history_without_a_write_and_tells_the_disk_with_the_next_one() {
    let (mut writer, disk, clock) = writer();
    writer.put("a", 0, Durability::Durable).unwrap();
    writer.put("a", 0, Durability::Durable).unwrap();
    for _ in 0..3 {
        clock.advance(Duration::from_mins(5));
        writer.round(Vec::new());
        writer.rest();
    }
    assert_eq!(writer.replica.snapshot().compact_revision(), 3);
    assert_eq!(disk.commits.lock().len(), 2);
    writer.put("b", 0, Durability::Durable).unwrap();
    let told = vec![(meta::COMPACT_REVISION, 3)];
    assert_eq!(disk.commits.lock()[2], (1, 0, 1, told));
}

#[test]
fn relaxed_writes_that_were_compacted_are_never_written() {
    let (mut writer, disk, clock) = writer();
    writer.put("a", 0, Durability::Relaxed).unwrap();
    for _ in 0..3 {
        writer.put("a", 0, Durability::Relaxed).unwrap();
        clock.advance(Duration::from_mins(5));
        writer.rest();
    }
    clock.advance(Duration::from_mins(10));
    writer.rest();
    writer.close().unwrap();
    let written: usize = disk.commits.lock().iter().map(|commit| commit.0).sum();
    assert!(written < 4, "{:?}", disk.commits.lock());
}

#[test]
fn a_flood_of_relaxed_writes_is_written_whole() {
    let (mut writer, disk, _clock) = writer();
    for _ in 0..5000 {
        writer.put("a", 0, Durability::Relaxed).unwrap();
    }
    writer.put("b", 0, Durability::Durable).unwrap();
    let rows: usize = disk.commits.lock().iter().map(|commit| commit.0).sum();
    assert!(rows > 2000, "{rows}");
    writer.close().unwrap();
    let rows: usize = disk.commits.lock().iter().map(|commit| commit.0).sum();
    assert_eq!(rows, 5001);
}

#[test]
fn relaxed_writes_are_flushed_by_a_durable_one_and_kept_if_it_fails() {
    let (mut writer, disk, _clock) = writer();
    writer.put("a", 0, Durability::Relaxed).unwrap();
    writer.put("a", 0, Durability::Relaxed).unwrap();
    disk.failures.store(1, Ordering::Relaxed);
    writer.put("b", 0, Durability::Durable).unwrap_err();
    assert_eq!(writer.put("b", 0, Durability::Durable).unwrap().revision, 4);
    assert_eq!(disk.commits.lock()[1].0, 2);
}

#[test]
fn strict_stores_write_relaxed_writes_like_all_others() {
    let (mut writer, disk, _clock) = writer();
    writer.options.relaxed_writes = RelaxedWrites::Strict;
    writer.put("a", 0, Durability::Relaxed).unwrap();
    writer.put("a", 0, Durability::Relaxed).unwrap();
    assert_eq!(
        *disk.commits.lock(),
        vec![
            (1, 0, 0, vec![(meta::CLEAN_SHUTDOWN, 0)]),
            (1, 0, 0, vec![])
        ]
    );
}

#[test]
fn a_store_that_compacted_everything_waits_for_ever() {
    let (mut writer, disk, clock) = writer();
    assert_eq!(writer.wait(), None);
    for _ in 0..1500 {
        writer.put("a", 0, Durability::Durable).unwrap();
    }
    for _ in 0..2 {
        clock.advance(Duration::from_mins(5));
        writer.round(Vec::new());
        writer.rest();
    }
    clock.advance(TRIM_AFTER);
    writer.rest();
    assert_eq!(writer.wait(), None);
    let forgotten: usize = disk.commits.lock().iter().map(|commit| commit.2).sum();
    assert_eq!(forgotten, 1499);
    assert!(
        disk.commits
            .lock()
            .iter()
            .all(|commit| commit.2 <= SWEEP_ROWS_IDLE)
    );
}

#[test]
fn a_flood_of_writes_does_not_wait_for_the_clock_to_be_forgotten() {
    let (mut writer, _disk, _clock) = writer();
    writer.history_versions_max = 100;
    for _ in 0..1000 {
        writer.put("a", 0, Durability::Durable).unwrap();
    }
    writer.rest();
    let (state, left) = (writer.replica.snapshot(), writer.replica.crowded(100));
    assert!(
        left.is_none() && state.revision() - state.compact_revision() >= 50,
        "{left:?}"
    );
    writer.options.auto_compaction = None;
    for _ in 0..200 {
        writer.put("a", 0, Durability::Durable).unwrap();
    }
    assert!(writer.replica.crowded(100).is_some());
}
