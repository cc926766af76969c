//! The next step of a stream: by the seed, and by what the servers agreed upon so far.

use std::collections::BTreeSet;

use etcd_testing::pb;
use etcd_testing::pb::range_request::{SortOrder, SortTarget};
use etcd_testing::pb::watch_create_request::FilterType;
use fastrand::Rng;

use crate::steps::{Request, Step};
use crate::transactions::{self, Kind};
use crate::words;

/// Calls under way at once, at most.
const TOGETHER_MAX: usize = 24;
/// Streams of watches. On the last one watches may begin in the future.
pub(crate) const STREAMS: usize = 3;
/// Watches of a stream.
const WATCHES_MAX: usize = 12;
/// How far a watch may begin in the future.
const FUTURE_MAX: i64 = 12;
/// A lease that lives longer than any stream.
const TTL_SECONDS: i64 = 1_000_000;
const LEASES_MAX: usize = 12;

/// What is known of the state of the servers.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    leases: Vec<i64>,
    next_lease: i64,
    /// The watches of each stream.
    pub(crate) watches: [BTreeSet<i64>; STREAMS],
}

impl Default for Known {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            leases: Vec::new(),
            next_lease: 1,
            watches: Default::default(),
        }
    }
}

impl Known {
    pub(crate) fn next(&mut self, rng: &mut Rng) -> Step {
        match rng.u16(..2000) {
            0..900 => self.reads(rng),
            900..1200 => Step::one(Request::Put(self.put(rng))),
            1200..1270 => Step::one(Request::Delete(self.delete(rng))),
            1270..1850 => Step::one(Request::Txn(transactions::txn(rng, self, Kind::Any))),
            1850..1920 => Step::one(self.lease_call(rng)),
            1920..1960 => self.watch(rng),
            1960..1970 => self.cancel(rng),
            1970..1980 => Step::Settle,
            1980..1990 => Step::one(Request::Compact(pb::CompactionRequest {
                revision: self.old_revision(rng),
                physical: rng.bool(),
            })),
            1990..1992 => Step::one(Request::Hash(pb::HashKvRequest {
                revision: if rng.bool() {
                    0
                } else {
                    self.old_revision(rng)
                },
            })),
            _ => Step::one(Request::Put(self.put(rng))),
        }
    }

    fn reads(&self, rng: &mut Rng) -> Step {
        let read = |rng: &mut Rng| match rng.u8(..20) {
            0..4 => Request::Txn(transactions::txn(rng, self, Kind::ReadOnly)),
            4 => Request::TimeToLive(pb::LeaseTimeToLiveRequest {
                id: self.lease(rng),
                keys: rng.bool(),
            }),
            5 if rng.u8(..8) == 0 => Request::Leases,
            _ => Request::Range(self.range(rng)),
        };
        let count = rng.usize(1..=TOGETHER_MAX);
        Step::Together((0..count).map(|_| read(rng)).collect())
    }

    pub(crate) fn range(&self, rng: &mut Rng) -> pb::RangeRequest {
        let mut request = pb::RangeRequest {
            key: words::key_or_none(rng),
            serializable: rng.bool(),
            ..Default::default()
        };
        if rng.bool() {
            request.range_end = words::end(rng, &request.key);
        } else {
            (request.key, request.range_end) = words::wide(rng);
        }
        if rng.u8(..4) == 0 {
            request.revision = self.old_revision(rng);
        }
        if rng.u8(..4) == 0 {
            request.limit = rng.i64(-1..6);
        }
        match rng.u8(..12) {
            0 => request.count_only = true,
            1 => request.keys_only = true,
            2 => (request.count_only, request.keys_only) = (true, true),
            _ => {}
        }
        if rng.u8(..4) == 0 {
            self.order(rng, &mut request);
        }
        if rng.u8(..8) == 0 {
            self.bounds(rng, &mut request);
        }
        request
    }

    fn order(&self, rng: &mut Rng, request: &mut pb::RangeRequest) {
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let targets = [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ];
        request.sort_order = orders[rng.usize(..orders.len())].into();
        request.sort_target = targets[rng.usize(..targets.len())].into();
    }

    fn bounds(&self, rng: &mut Rng, request: &mut pb::RangeRequest) {
        for bound in [
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            if rng.u8(..3) == 0 {
                *bound = self.old_revision(rng);
            }
        }
    }

    pub(crate) fn put(&self, rng: &mut Rng) -> pb::PutRequest {
        let mut request = pb::PutRequest {
            key: words::key_or_none(rng),
            value: words::value(rng),
            prev_kv: rng.u8(..4) == 0,
            ..Default::default()
        };
        if rng.u8(..4) == 0 {
            request.lease = self.lease(rng);
        }
        match rng.u8(..24) {
            0 => {
                request.ignore_value = true;
                if rng.u8(..8) != 0 {
                    request.value = Vec::new();
                }
            }
            1 => {
                request.ignore_lease = true;
                if rng.u8(..8) != 0 {
                    request.lease = 0;
                }
            }
            _ => {}
        }
        request
    }

    pub(crate) fn delete(&self, rng: &mut Rng) -> pb::DeleteRangeRequest {
        let key = words::key_or_none(rng);
        let range_end = if rng.bool() {
            Vec::new()
        } else {
            words::end(rng, &key)
        };
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: rng.u8(..3) == 0,
        }
    }

    /// A lease that is there, none, or one that is not there.
    pub(crate) fn lease(&self, rng: &mut Rng) -> i64 {
        match rng.u8(..12) {
            0 => 0,
            1 => self.next_lease + 1,
            _ => rng.choice(&self.leases).copied().unwrap_or(0),
        }
    }

    fn lease_call(&mut self, rng: &mut Rng) -> Request {
        match rng.u8(..10) {
            0..4 if self.leases.len() < LEASES_MAX => {
                self.next_lease += 1;
                Request::Grant(pb::LeaseGrantRequest {
                    ttl: if rng.u8(..20) == 0 {
                        i64::MAX
                    } else {
                        TTL_SECONDS + rng.i64(0..1000)
                    },
                    // Rarely one that is there.
                    id: if rng.u8(..10) == 0 {
                        self.lease(rng).max(1)
                    } else {
                        self.next_lease
                    },
                })
            }
            4..7 => Request::KeepAlive(pb::LeaseKeepAliveRequest {
                id: self.lease(rng),
            }),
            _ => Request::Revoke(pb::LeaseRevokeRequest {
                id: self.lease(rng),
            }),
        }
    }

    /// For conditions: none, now, or shortly before.
    pub(crate) fn condition_revision(&self, rng: &mut Rng) -> i64 {
        match rng.u8(..4) {
            0 => 0,
            1 => self.revision,
            _ => (self.revision - rng.i64(0..40)).max(0),
        }
    }

    /// Mostly one that can be read; else compacted or to come.
    fn old_revision(&self, rng: &mut Rng) -> i64 {
        match rng.u8(..16) {
            0 => self.compacted - rng.i64(0..3),
            1 => self.compacted + 1,
            2 => self.revision + rng.i64(0..4),
            3..8 => rng.i64(self.compacted..=self.revision),
            _ => rng.i64((self.revision - 60).max(self.compacted)..=self.revision),
        }
    }

    fn watch(&self, rng: &mut Rng) -> Step {
        let stream = rng.usize(..STREAMS);
        if self.watches[stream].len() >= WATCHES_MAX {
            return self.cancel_one(stream, rng);
        }
        let (key, range_end) = if rng.bool() {
            words::wide(rng)
        } else {
            let key = words::key_or_none(rng);
            let end = words::end(rng, &key);
            (key, end)
        };
        let start_revision = match rng.u8(..16) {
            0 => -1,
            1..7 => 0,
            7 | 8 if stream == STREAMS - 1 => self.revision + rng.i64(1..FUTURE_MAX),
            _ => self.old_revision(rng).min(self.revision),
        };
        let filters = match rng.u8(..8) {
            0 => vec![FilterType::Noput.into()],
            1 => vec![FilterType::Nodelete.into()],
            2 if rng.bool() => vec![FilterType::Nodelete.into(), FilterType::Noput.into()],
            _ => Vec::new(),
        };
        Step::Watch(
            stream,
            pb::WatchCreateRequest {
                key,
                range_end,
                start_revision,
                filters,
                prev_kv: rng.bool(),
                fragment: rng.bool(),
                watch_id: if rng.u8(..4) == 0 { rng.i64(1..40) } else { 0 },
                progress_notify: rng.bool(),
            },
        )
    }

    fn cancel(&self, rng: &mut Rng) -> Step {
        self.cancel_one(rng.usize(..STREAMS), rng)
    }

    fn cancel_one(&self, stream: usize, rng: &mut Rng) -> Step {
        match rng.choice(&self.watches[stream]) {
            Some(id) => Step::Cancel(stream, *id),
            None => Step::Settle,
        }
    }

    pub(crate) fn granted(&mut self, id: i64) {
        self.leases.push(id);
    }

    pub(crate) fn revoked(&mut self, id: i64) {
        self.leases.retain(|lease| *lease != id);
    }
}
