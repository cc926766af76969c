//! Compaction of an etcd that several servers share: as kube-apiserver does it, whoever counts up the version of one key compacts, and the others
//! learn from it what is forgotten.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kv::{
    Compare, CompareOperator, CompareTarget, Durability, KeyRange, Operation, OperationResult,
    RangeRequest, Result, Revision, Txn,
};
use tokio::sync::watch;

use crate::store::Store;

/// The key that kube-apiserver has for the same purpose: both may share an etcd.
const KEY: &str = "compact_rev_key";

pub(crate) struct Compactor {
    pub(crate) store: Weak<Store>,
    /// History of this age is forgotten.
    pub(crate) every: Duration,
    pub(crate) closed: watch::Receiver<bool>,
}

impl Compactor {
    /// Runs until the store is closed.
    pub(crate) async fn run(mut self) {
        let (mut version, mut old) = (0, 0);
        loop {
            let wait = env::timeout(self.every, self.closed.wait_for(|closed| *closed));
            if wait.await.is_ok() {
                return;
            }
            let Some(store) = self.store.upgrade() else {
                return;
            };
            let newest = store.current_revision();
            if newest == old {
                continue;
            }
            match turn(&store, version, old).await {
                Ok(next) => version = next,
                Err(error) => tracing::warn!(%error, "etcd's history cannot be compacted now"),
            }
            old = newest;
        }
    }
}

/// Compacts to `revision` if nobody else did in the meantime; returns the version of the key as it is now.
async fn turn(store: &Arc<Store>, version: i64, revision: Revision) -> Result<i64> {
    let txn = Txn {
        compares: vec![Compare {
            range: KeyRange::key(KEY),
            target: CompareTarget::Version(version),
            operator: CompareOperator::Equal,
        }],
        success: vec![Operation::Put {
            key: KEY.into(),
            value: revision.to_string().into_bytes().into(),
            lease: 0,
        }],
        failure: vec![Operation::Range(RangeRequest::newest(KeyRange::key(KEY)))],
    };
    let answer = store.txn(txn, Durability::Durable).await?;
    if let Some(OperationResult::Range(found)) = answer.results.first() {
        let Some(entry) = found.entries.first() else {
            return Ok(0);
        };
        let compacted = std::str::from_utf8(&entry.value).ok();
        if let Some(compacted) = compacted.and_then(|text| text.parse().ok()) {
            store.learn_compacted(compacted);
        }
        return Ok(entry.version);
    }
    if revision > 0 {
        match store.compact(revision).await {
            Ok(()) | Err(kv::Error::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(version + 1)
}
