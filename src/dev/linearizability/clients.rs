//! The traffic: each client asks one thing at a time, and notes when it asked and what it was told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcd_testing::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_testing::pb::request_op::Request;
use etcd_testing::pb::response_op::Response;
use etcd_testing::{Client, mvccpb, pb};
use fastrand::Rng;
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::history::{
    Call, Entries, Entry, KEYS, Key, Operation, Outcome, PREFIX, RELAXED_KEYS, Write, name, number,
};

const LEASE_SECONDS: i64 = 100_000;
/// How far behind the present a compaction is, so that watches that begin again are in time.
const KEPT_REVISIONS: i64 = 2000;
const RETRY_AFTER: Duration = Duration::from_millis(2);
/// Values of one client; those of the next one are above.
pub(crate) const VALUES_MAX: u64 = 1 << 32;

/// What all clients and watchers of a run share.
pub(crate) struct Run {
    pub(crate) begin: Instant,
    pub(crate) port: u16,
    pub(crate) operations: Mutex<Vec<Operation>>,
}

impl Run {
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn note(&self, operation: Operation) {
        let mut operations = self.operations.lock().expect("no one panics with it");
        operations.push(operation);
    }
}

/// Where clients stand: the number of the server that runs, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Down,
    Up(u32),
    Over,
}

/// The number of the server that runs next or now; `None` when the traffic is over.
pub(crate) async fn server(phases: &mut watch::Receiver<Phase>) -> Option<u32> {
    let phase = phases.wait_for(|phase| *phase != Phase::Down).await.ok()?;
    match *phase {
        Phase::Up(epoch) => Some(epoch),
        _ => None,
    }
}

pub(crate) struct Traffic {
    pub(crate) run: Arc<Run>,
    pub(crate) rng: Rng,
    pub(crate) phases: watch::Receiver<Phase>,
    /// The next value that nobody else writes.
    pub(crate) value: u64,
    /// A lease of its own, if it has one.
    lease: i64,
    seen: Seen,
}

/// What it saw last: conditions are made of it.
#[derive(Default)]
struct Seen {
    revision: i64,
    entries: Entries,
}

impl Traffic {
    pub(crate) fn new(run: Arc<Run>, rng: Rng, phases: watch::Receiver<Phase>, id: u64) -> Self {
        Self {
            run,
            rng,
            phases,
            value: id * VALUES_MAX,
            lease: 0,
            seen: Seen::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        while let Some(epoch) = server(&mut self.phases).await {
            match Client::connect(self.run.port).await {
                Ok(client) => while self.one(&client, epoch).await {},
                Err(_) => env::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// One call; `false` once the connection is no good any more or the traffic is over.
    async fn one(&mut self, client: &Client, epoch: u32) -> bool {
        if *self.phases.borrow() == Phase::Over {
            return false;
        }
        if self.rng.u16(..2000) == 0 {
            let revision = self.seen.revision - KEPT_REVISIONS;
            let request = pb::CompactionRequest {
                revision,
                physical: false,
            };
            return revision < 1 || client.call(request).await.is_ok();
        }
        let call = self.next();
        let called = self.run.now();
        let answered = ask(client, &call).await;
        let returned = self.run.now();
        let outcome = answered.unwrap_or_else(|status| refused(&status));
        let goes_on = outcome != Outcome::Unknown;
        self.learn(&call, &outcome);
        self.run.note(Operation {
            called,
            returned,
            epoch,
            call,
            outcome,
        });
        goes_on
    }

    fn next(&mut self) -> Call {
        let rng = &mut self.rng;
        let key = rng.u8(..KEYS + RELAXED_KEYS);
        match rng.u8(..100) {
            0..22 => Call::Read { key: Some(key) },
            22..28 => Call::Read { key: None },
            28..32 => Call::ReadOld {
                revision: (self.seen.revision - rng.i64(0..200)).max(1),
            },
            32..38 => self.lease_call(),
            38..46 => {
                let condition = rng.bool().then(|| self.expected(key));
                Call::Write {
                    condition,
                    writes: vec![Write::Delete { key }],
                }
            }
            46..54 => {
                let other = (key + 1) % KEYS;
                let writes = vec![self.put(key), self.put(other)];
                Call::Write {
                    condition: None,
                    writes,
                }
            }
            54..75 => {
                let condition = Some(self.expected(key));
                Call::Write {
                    condition,
                    writes: vec![self.put(key)],
                }
            }
            _ => Call::Write {
                condition: None,
                writes: vec![self.put(key)],
            },
        }
    }

    fn expected(&self, key: Key) -> (Key, i64) {
        (
            key,
            self.seen
                .entries
                .get(&key)
                .map_or(0, |entry| entry.modified),
        )
    }

    fn put(&mut self, key: Key) -> Write {
        self.value += 1;
        let with_lease = self.rng.u8(..8) == 0;
        Write::Put {
            key,
            value: self.value,
            lease: if with_lease { self.lease } else { 0 },
        }
    }

    fn lease_call(&mut self) -> Call {
        let lease = std::mem::take(&mut self.lease);
        if lease != 0 {
            return Call::Revoke { lease };
        }
        self.value += 1;
        Call::Grant {
            lease: i64::try_from(self.value).unwrap_or(i64::MAX),
        }
    }

    fn learn(&mut self, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (Call::Read { key }, Outcome::Read { revision, entries }) => {
                self.seen.revision = *revision;
                match key {
                    Some(key) => {
                        self.seen.entries.remove(key);
                    }
                    None => self.seen.entries.clear(),
                }
                self.seen.entries.extend(entries);
            }
            (
                Call::Write {
                    condition: Some((key, _)),
                    ..
                },
                Outcome::NotWritten { revision, found },
            ) => {
                self.seen.revision = *revision;
                self.seen.entries.remove(key);
                self.seen.entries.extend(found.map(|entry| (*key, entry)));
            }
            (Call::Write { .. }, Outcome::Written { revision, .. }) => {
                self.seen.revision = *revision;
            }
            (Call::Grant { lease }, Outcome::Done) => self.lease = *lease,
            _ => {}
        }
    }
}

/// What a refusal says; what is not sure to be one may have been done.
fn refused(status: &Status) -> Outcome {
    match (status.code(), status.message()) {
        (Code::NotFound, "etcdserver: requested lease not found") => Outcome::LeaseMissing,
        (Code::OutOfRange, _) => Outcome::Compacted,
        _ => Outcome::Unknown,
    }
}

async fn ask(client: &Client, call: &Call) -> Result<Outcome, Status> {
    match call {
        Call::Read { key } => read(client, *key, 0).await,
        Call::ReadOld { revision } => read(client, None, *revision).await,
        Call::Write {
            condition: None,
            writes,
        } if writes.len() == 1 => write_one(client, &writes[0]).await,
        Call::Write { condition, writes } => txn(client, *condition, writes).await,
        Call::Grant { lease } => {
            let request = pb::LeaseGrantRequest {
                ttl: LEASE_SECONDS,
                id: *lease,
            };
            client.call(request).await.map(|_granted| Outcome::Done)
        }
        Call::Revoke { lease } => {
            let request = pb::LeaseRevokeRequest { id: *lease };
            client.call(request).await.map(|_revoked| Outcome::Done)
        }
        Call::Crash => Ok(Outcome::Unknown),
    }
}

async fn read(client: &Client, key: Option<Key>, revision: i64) -> Result<Outcome, Status> {
    let answer = client.call(range(key, revision)).await?;
    Ok(Outcome::Read {
        revision: answer.header.unwrap_or_default().revision,
        entries: answer.kvs.iter().filter_map(entry).collect(),
    })
}

fn range(key: Option<Key>, revision: i64) -> pb::RangeRequest {
    let (key, range_end) = match key {
        Some(key) => (name(key).into_bytes(), Vec::new()),
        None => everything(),
    };
    pb::RangeRequest {
        key,
        range_end,
        revision,
        ..Default::default()
    }
}

/// The first key and the end of all.
pub(crate) fn everything() -> (Vec<u8>, Vec<u8>) {
    let end = PREFIX.replace('/', "0");
    (PREFIX.into(), end.into())
}

fn entry(kv: &mvccpb::KeyValue) -> Option<(Key, Entry)> {
    let entry = Entry {
        value: value(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    };
    Some((number(&kv.key)?, entry))
}

/// A value that nobody wrote is none that anybody expects.
pub(crate) fn value(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

fn put(key: Key, value: u64, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: name(key).into_bytes(),
        value: value.to_string().into_bytes(),
        lease,
        prev_kv: true,
        ..Default::default()
    }
}

fn delete(key: Key) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: name(key).into_bytes(),
        prev_kv: true,
        ..Default::default()
    }
}

async fn write_one(client: &Client, write: &Write) -> Result<Outcome, Status> {
    let (header, previous) = match *write {
        Write::Put { key, value, lease } => {
            let answer = client.call(put(key, value, lease)).await?;
            (answer.header, answer.prev_kv)
        }
        Write::Delete { key } => {
            let answer = client.call(delete(key)).await?;
            (answer.header, answer.prev_kvs.into_iter().next())
        }
    };
    Ok(Outcome::Written {
        revision: header.unwrap_or_default().revision,
        previous: vec![previous.as_ref().and_then(entry).map(|(_, entry)| entry)],
    })
}

async fn txn(
    client: &Client,
    condition: Option<(Key, i64)>,
    writes: &[Write],
) -> Result<Outcome, Status> {
    let operation = |request| pb::RequestOp {
        request: Some(request),
    };
    let write = |write: &Write| match *write {
        Write::Put { key, value, lease } => operation(Request::RequestPut(put(key, value, lease))),
        Write::Delete { key } => operation(Request::RequestDeleteRange(delete(key))),
    };
    let compare = |(key, revision): (Key, i64)| pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: name(key).into_bytes(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        range_end: Vec::new(),
    };
    let else_read = |(key, _)| operation(Request::RequestRange(range(Some(key), 0)));
    let request = pb::TxnRequest {
        compare: condition.map(compare).into_iter().collect(),
        success: writes.iter().map(write).collect(),
        failure: condition.map(else_read).into_iter().collect(),
    };
    let answer = client.call(request).await?;
    let revision = answer.header.unwrap_or_default().revision;
    let mut found = answer.responses.into_iter().map(|done| {
        match done.response {
            Some(Response::ResponsePut(put)) => put.prev_kv,
            Some(Response::ResponseDeleteRange(deleted)) => deleted.prev_kvs.into_iter().next(),
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        }
        .as_ref()
        .and_then(entry)
        .map(|(_, entry)| entry)
    });
    Ok(if answer.succeeded {
        Outcome::Written {
            revision,
            previous: found.collect(),
        }
    } else {
        Outcome::NotWritten {
            revision,
            found: found.next().flatten(),
        }
    })
}
