//! Ranges: what the store is asked for, and what is made of its answer. The store knows neither orders nor filters: where a client asks for them,
//! everything is read, as in etcd, and cut off afterwards.

use std::cmp::Ordering;
use std::sync::Arc;

use kv::{Entry, KeyRange, RangeContent};

use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::proto::mvccpb::KeyValue;
use crate::status::Refusal;

/// The range that a key and a range end mean.
pub(crate) fn key_range(key: &[u8], range_end: &[u8]) -> KeyRange {
    KeyRange {
        start: key.to_vec(),
        end: match range_end {
            [] => None,
            [0] => Some(Vec::new()),
            end => Some(end.to_vec()),
        },
    }
}

pub(crate) fn check(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(Refusal::InvalidSortOption)
    }
}

/// What the store is asked.
pub(crate) fn asked(request: &RangeRequest) -> kv::RangeRequest {
    kv::RangeRequest {
        range: key_range(&request.key, &request.range_end),
        revision: Some(request.revision).filter(|revision| *revision != 0),
        limit: if is_plain(request) {
            // One more tells whether there are more.
            limit(request).map_or(0, |limit| limit.saturating_add(1))
        } else {
            0
        },
        content: if request.count_only {
            RangeContent::CountOnly
        } else {
            RangeContent::KeysAndValues
        },
    }
}

/// Whether the first entries by key are the ones that are wanted.
pub(crate) fn is_plain(request: &RangeRequest) -> bool {
    request.sort_order() == SortOrder::None && !has_filter(request)
}

pub(crate) fn has_filter(request: &RangeRequest) -> bool {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
    .iter()
    .any(|bound| *bound != 0)
}

/// `None`: everything.
fn limit(request: &RangeRequest) -> Option<usize> {
    usize::try_from(request.limit)
        .ok()
        .filter(|limit| *limit > 0)
}

/// What is answered.
pub(crate) fn answer(
    request: &RangeRequest,
    found: kv::RangeResponse,
    header: Option<ResponseHeader>,
) -> RangeResponse {
    let mut entries = found.entries;
    if has_filter(request) {
        entries.retain(|entry| passes(request, entry));
    }
    sort(request, &mut entries);
    let more = limit(request).is_some_and(|limit| entries.len() > limit);
    entries.truncate(limit(request).unwrap_or(usize::MAX));
    RangeResponse {
        header,
        kvs: entries.iter().map(|entry| listed(request, entry)).collect(),
        more,
        count: i64::try_from(found.count).expect("a count of keys fits 63 bits"),
    }
}

fn passes(request: &RangeRequest, entry: &Entry) -> bool {
    let within = |number: i64, min: i64, max: i64| {
        (min == 0 || number >= min) && (max == 0 || number <= max)
    };
    within(
        entry.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        entry.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

fn sort(request: &RangeRequest, entries: &mut [Arc<Entry>]) {
    let target = request.sort_target();
    let descends = match request.sort_order() {
        // What the store gives stands in the order of keys.
        SortOrder::None | SortOrder::Ascend if target == SortTarget::Key => return,
        SortOrder::None | SortOrder::Ascend => false,
        SortOrder::Descend => true,
    };
    let compare = |left: &Entry, right: &Entry| match target {
        SortTarget::Key => left.key.cmp(&right.key),
        SortTarget::Version => left.version.cmp(&right.version),
        SortTarget::Create => left.create_revision.cmp(&right.create_revision),
        SortTarget::Mod => left.mod_revision.cmp(&right.mod_revision),
        SortTarget::Value => left.value.cmp(&right.value),
    };
    let reversed = |ordering: Ordering| {
        if descends {
            ordering.reverse()
        } else {
            ordering
        }
    };
    entries.sort_by(|left, right| reversed(compare(left, right)));
}

pub(crate) fn listed(request: &RangeRequest, entry: &Entry) -> KeyValue {
    if request.keys_only {
        without_value(entry)
    } else {
        key_value(entry)
    }
}

pub(crate) fn key_value(entry: &Entry) -> KeyValue {
    KeyValue {
        value: entry.value.to_vec(),
        ..without_value(entry)
    }
}

fn without_value(entry: &Entry) -> KeyValue {
    KeyValue {
        key: entry.key.to_vec(),
        create_revision: entry.create_revision,
        mod_revision: entry.mod_revision,
        version: entry.version,
        value: Vec::new(),
        lease: entry.lease,
    }
}
