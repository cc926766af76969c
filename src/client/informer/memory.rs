//! What caches knew when no server answers: kept on disk, sealed, by a plan of what is worth it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use apimachinery::{GroupVersionResource, ObjectKey, StoredObject};
use kube_client::ListRequest;
use sealed_files::Records;

use crate::{Cache, Change};

/// Objects that are kept together lie in so many records: a change rewrites one of them.
const SHARDS: u64 = 16;
/// What does not fit into a shard is not remembered.
const SHARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Stands between the parts of a record's name, and in none of them.
const SEPARATOR: char = '\n';
const REVISION_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

/// The memory of a process' caches. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Memory {
    records: Records,
    plan: Arc<[Kept]>,
}

/// Selections that are kept. The first entry of a plan that fits counts; what none fits is not kept.
#[derive(Clone, Debug)]
pub struct Kept {
    pub resource: GroupVersionResource,
    pub selections: Selections,
    pub how: Keep,
    /// Whether a change from the first to the second object is worth a write.
    pub is_news: fn(&StoredObject, &StoredObject) -> bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selections {
    /// Those that select by a field, as all that concerns one node does.
    ByField,
    /// All others.
    Others,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// A record for each object, written at once.
    Each,
    /// Some records for all objects, written some seconds after a change.
    Together,
    /// Never written: while no server answers, what is remembered of this selection stands in.
    As(ListRequest),
}

/// Every change counts.
pub fn always(_old: &StoredObject, _new: &StoredObject) -> bool {
    true
}

impl Memory {
    pub fn new(records: Records, plan: Vec<Kept>) -> Self {
        Self {
            records,
            plan: plan.into(),
        }
    }

    pub fn records(&self) -> &Records {
        &self.records
    }

    fn kept(&self, request: &ListRequest) -> Option<&Kept> {
        let selections = if request.field_selector.is_empty() {
            Selections::Others
        } else {
            Selections::ByField
        };
        self.plan
            .iter()
            .find(|kept| kept.resource == request.resource && kept.selections == selections)
    }

    /// The selection as it was; `None` if it never was complete, or is not kept. Reads the disk.
    pub fn recall(&self, request: &ListRequest) -> Option<Vec<StoredObject>> {
        match &self.kept(request)?.how {
            Keep::As(other) if other != request => self.recall(other),
            Keep::As(_) => None,
            Keep::Each | Keep::Together => self.read(request),
        }
    }

    fn read(&self, request: &ListRequest) -> Option<Vec<StoredObject>> {
        let prefix = prefix(request);
        // Written once the first list was complete: an empty selection and an unknown one are two things.
        self.records.get(&prefix)?;
        let mut objects: BTreeMap<ObjectKey, StoredObject> = BTreeMap::new();
        for name in self.records.names(&prefix) {
            let Some(bytes) = self.records.get(&name) else {
                continue;
            };
            for object in decode(&bytes) {
                objects.insert(object.key().clone(), object);
            }
        }
        Some(objects.into_values().collect())
    }

    /// From now on what changes in the cache is remembered.
    pub(crate) fn follow(&self, cache: &Arc<Cache>) {
        let Some(kept) = self.kept(cache.request()) else {
            return;
        };
        let (records, prefix) = (self.records.clone(), prefix(cache.request()));
        let (is_news, itself) = (kept.is_news, Arc::downgrade(cache));
        let keep: fn(&Records, &str, &Change, &Weak<Cache>) = match kept.how {
            Keep::Each => keep_each,
            Keep::Together => keep_together,
            Keep::As(_) => return,
        };
        cache.observe(move |change| {
            let is_old_hat =
                matches!((&change.old, &change.new), (Some(old), Some(new)) if !is_news(old, new));
            if !is_old_hat {
                keep(&records, &prefix, change, &itself);
            }
        });
    }

    /// The selection is complete as a server tells it.
    pub(crate) fn listed(&self, request: &ListRequest) {
        let is_kept = self
            .kept(request)
            .is_some_and(|kept| !matches!(kept.how, Keep::As(_)));
        if is_kept {
            self.records
                .put_later(&prefix(request), || Some(Vec::new()));
        }
    }

    /// The selections of a resource of which something is remembered.
    pub fn selections(&self, resource: &GroupVersionResource) -> Vec<ListRequest> {
        let parts = [
            "objects",
            &resource.group,
            &resource.version,
            &resource.resource,
        ];
        let prefix = parts.map(|part| format!("{part}{SEPARATOR}")).concat();
        let names = self.records.names(&prefix);
        let parsed = names.iter().filter_map(|name| {
            let mut parts = name.strip_prefix(&prefix)?.split(SEPARATOR);
            let (namespace, labels, fields) = (parts.next()?, parts.next()?, parts.next()?);
            Some(ListRequest {
                resource: resource.clone(),
                namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
                label_selector: labels.to_owned(),
                field_selector: fields.to_owned(),
            })
        });
        let all: BTreeSet<ListRequest> = parsed.collect();
        all.into_iter().collect()
    }

    /// Nobody needs the selection any more.
    pub(crate) fn forget(&self, request: &ListRequest) {
        for name in self.records.names(&prefix(request)) {
            self.records.remove(&name);
        }
    }
}

fn keep_each(records: &Records, prefix: &str, change: &Change, _cache: &Weak<Cache>) {
    let key = change.key();
    let name = format!("{prefix}{}{SEPARATOR}{}", key.namespace, key.name);
    match change.new.clone() {
        Some(object) => records.put_soon(&name, move || {
            let mut bytes = Vec::new();
            encode(&object, &mut bytes);
            Some(bytes)
        }),
        None => records.remove(&name),
    }
}

fn keep_together(records: &Records, prefix: &str, change: &Change, cache: &Weak<Cache>) {
    let Some(cache) = cache.upgrade() else {
        return;
    };
    let shard = shard_of(change.key());
    // The cache lives until then, which is some seconds.
    records.put_later(&format!("{prefix}{shard:02}"), move || {
        Some(encode_shard(&cache, shard)).filter(|bytes| !bytes.is_empty())
    });
}

fn encode_shard(cache: &Cache, shard: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for object in cache.list() {
        if shard_of(object.key()) != shard {
            continue;
        }
        if bytes.len() + object.bytes.len() > SHARD_BYTES_MAX {
            tracing::warn!(resource = %cache.request().resource.resource, object = %object.key(),
                "there are too many objects to remember: without a server this one would be unknown");
            continue;
        }
        encode(&object, &mut bytes);
    }
    bytes
}

/// The same in every process, now and later.
fn shard_of(key: &ObjectKey) -> u64 {
    let text = key.namespace.bytes().chain([0]).chain(key.name.bytes());
    // FNV-1a: spread evenly, secret to nobody.
    let hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash % SHARDS
}

fn prefix(request: &ListRequest) -> String {
    let resource = &request.resource;
    let parts = [
        "objects",
        &resource.group,
        &resource.version,
        &resource.resource,
        request.namespace.as_deref().unwrap_or_default(),
        &request.label_selector,
        &request.field_selector,
    ];
    let mut prefix = parts.join("\n");
    prefix.push(SEPARATOR);
    prefix
}

/// `revision length bytes`, one object after the other.
fn encode(object: &StoredObject, into: &mut Vec<u8>) {
    let length = u32::try_from(object.bytes.len()).expect("the store's objects are far smaller");
    into.extend_from_slice(&object.revision.to_le_bytes());
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&object.bytes);
}

/// What cannot be read ends the list: the file was sealed whole, so it is another release's layout.
fn decode(mut bytes: &[u8]) -> Vec<StoredObject> {
    let mut objects = Vec::new();
    while !bytes.is_empty() {
        let Some((object, rest)) = decode_one(bytes) else {
            tracing::warn!("a remembered object cannot be read and is skipped");
            break;
        };
        objects.push(object);
        bytes = rest;
    }
    objects
}

fn decode_one(bytes: &[u8]) -> Option<(StoredObject, &[u8])> {
    let (revision, rest) = bytes.split_first_chunk::<REVISION_BYTES>()?;
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (object, rest) = rest.split_at_checked(length)?;
    let object = StoredObject::new(object.into(), i64::from_le_bytes(*revision)).ok()?;
    Some((object, rest))
}
