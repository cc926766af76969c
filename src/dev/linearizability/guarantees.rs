//! What watches promise, checked on what all watchers of a run heard: in order, once, whole revisions, without gaps, no progress before its time, and
//! the same as the order of the writes.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use crate::history::{Call, Entries, Key, Operation, Outcome, is_relaxed};
use crate::model::Leases;
use crate::search::Order;
use crate::watchers::{Change, Heard};

/// The changes of each revision, in their order.
pub(crate) type Log = BTreeMap<i64, Vec<Change>>;

/// What a watcher said that it knows everything of: from a revision to another, and what it heard.
pub(crate) struct Span {
    key: Option<Key>,
    first: i64,
    last: i64,
    log: Log,
}

/// What each watcher knows everything of.
pub(crate) fn spans(watchers: &[(Option<Key>, Vec<Heard>)]) -> anyhow::Result<Vec<Span>> {
    let mut spans = Vec::new();
    for (number, (key, heard)) in watchers.iter().enumerate() {
        let heard = split(*key, heard).with_context(|| format!("watcher {number}"))?;
        spans.extend(heard);
    }
    Ok(spans)
}

/// Returns how many events were heard.
pub(crate) fn check(
    spans: &[Span],
    all: &Log,
    order: &Order,
    leases: Leases,
) -> anyhow::Result<usize> {
    for span in spans {
        check_gaps(span, all)?;
    }
    let written = written(order);
    for (revision, changes) in all {
        let wanted = written.get(revision).cloned().unwrap_or_default();
        ensure!(
            same(&wanted, changes),
            "revision {revision} was heard as {changes:?} and written as {wanted:?}"
        );
    }
    for (revision, changes) in &written {
        let may_be_lost =
            leases == Leases::Relaxed && changes.iter().all(|(key, _)| is_relaxed(*key));
        let is_covered = spans
            .iter()
            .any(|span| span.key.is_none() && (span.first..=span.last).contains(revision));
        ensure!(
            may_be_lost || !is_covered || all.contains_key(revision),
            "nobody heard of revision {revision}: {changes:?}"
        );
    }
    Ok(spans
        .iter()
        .flat_map(|span| span.log.values())
        .map(Vec::len)
        .sum())
}

/// What one watcher heard, cut where history was compacted.
fn split(key: Option<Key>, heard: &[Heard]) -> anyhow::Result<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    let mut may_skip = true;
    for heard in heard {
        match heard {
            Heard::From(first) if may_skip => {
                let (first, last) = (*first, first - 1);
                spans.push(Span {
                    key,
                    first,
                    last,
                    log: Log::new(),
                });
                may_skip = false;
            }
            Heard::From(_) => {}
            Heard::Compacted(_) => may_skip = true,
            Heard::Progress(revision) => {
                let span = spans.last_mut().context("a watch begins with its answer")?;
                ensure!(
                    *revision >= span.last,
                    "progress to {revision} after {}",
                    span.last
                );
                span.last = *revision;
            }
            Heard::Events(events) => {
                let span = spans.last_mut().context("a watch begins with its answer")?;
                let first = events.first().context("an answer has an event")?.0;
                ensure!(first > span.last, "revision {first} after {}", span.last);
                ensure!(
                    events.is_sorted_by_key(|(revision, _)| *revision),
                    "out of order: {events:?}"
                );
                for (revision, change) in events {
                    span.last = *revision;
                    span.log.entry(*revision).or_default().push(*change);
                }
            }
        }
    }
    Ok(spans)
}

/// All that anybody heard; errors where two who watch all keys heard different things of one revision.
pub(crate) fn agree(spans: &[Span]) -> anyhow::Result<Log> {
    let mut all = Log::new();
    for span in spans.iter().filter(|span| span.key.is_none()) {
        for (revision, changes) in &span.log {
            let first = all.entry(*revision).or_insert_with(|| changes.clone());
            ensure!(
                first == changes,
                "revision {revision} is {first:?} and {changes:?}"
            );
        }
    }
    Ok(all)
}

fn check_gaps(span: &Span, all: &Log) -> anyhow::Result<()> {
    let wanted = |(key, _): &Change| span.key.is_none_or(|wanted| *key == wanted);
    for (revision, changes) in all.range(span.first..=span.last.max(span.first)) {
        if *revision > span.last {
            break;
        }
        let due: Vec<Change> = changes.iter().copied().filter(wanted).collect();
        let heard = span.log.get(revision).cloned().unwrap_or_default();
        ensure!(
            due == heard,
            "a watch of {:?} heard {heard:?} of revision {revision}, which is {due:?}",
            span.key
        );
    }
    let unknown = span.log.keys().find(|revision| !all.contains_key(revision));
    ensure!(
        unknown.is_none(),
        "only a watch of {:?} heard of {unknown:?}",
        span.key
    );
    Ok(())
}

/// The changes that the order of the operations makes.
fn written(order: &Order) -> Log {
    let mut log = Log::new();
    let empty = Entries::new();
    let mut before = (1, &empty);
    for (_, state) in order {
        // A crash changes revision and entries without a write.
        if state.revision == before.0 + 1 {
            let changes = changes(before.1, &state.entries);
            if !changes.is_empty() {
                log.insert(state.revision, changes);
            }
        }
        before = (state.revision, &state.entries);
    }
    log
}

pub(crate) fn changes(before: &Entries, after: &Entries) -> Vec<Change> {
    let put = after
        .iter()
        .filter(|(key, entry)| before.get(key) != Some(entry));
    let put = put.map(|(key, entry)| (*key, Some(entry.value)));
    let gone = before.keys().filter(|key| !after.contains_key(key));
    put.chain(gone.map(|key| (*key, None))).collect()
}

/// The order within a revision is that of the operations of a transaction, which a difference of states does not know.
pub(crate) fn same(left: &[Change], right: &[Change]) -> bool {
    let sorted = |changes: &[Change]| {
        let mut changes = changes.to_vec();
        changes.sort();
        changes
    };
    sorted(left) == sorted(right)
}

/// Reads of an older revision answer with the state of then.
pub(crate) fn check_old_reads(
    order: &Order,
    history: &[Operation],
    reads: &[Operation],
) -> anyhow::Result<()> {
    let empty = Entries::new();
    let mut states: BTreeMap<i64, &Entries> = BTreeMap::from([(1, &empty)]);
    for (operation, state) in order {
        if history[*operation].call != Call::Crash {
            states.insert(state.revision, &state.entries);
        }
    }
    for operation in reads {
        if let (Call::ReadOld { revision }, Outcome::Read { entries, .. }) =
            (&operation.call, &operation.outcome)
        {
            let wanted = states.range(..=revision).next_back();
            let wanted = wanted.map_or(&empty, |(_, entries)| *entries);
            ensure!(
                wanted == entries,
                "at revision {revision} there was {wanted:?}, and a read found {entries:?}"
            );
        }
    }
    Ok(())
}
