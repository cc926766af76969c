//! Queues of holders, which locks and elections are made of: a key for each place, under one name, and whose key is the oldest has the turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kv::{
    Compare, CompareOperator, CompareTarget, Entry, Event, KeyRange, LeaseId, Operation,
    OperationResult, RangeRequest, Revision, Txn, WatchMessage, WatchRequest,
};
use tonic::Status;

use crate::core::Core;
use crate::status::{STOPPED, status};
use crate::transactions::single;

/// The life of a lease that is made for who brings none, as in etcd.
const LEASE_TTL: Duration = Duration::from_secs(60);

/// A place in a queue. Dropped before its turn came, it is given up: the client is gone.
pub(crate) struct Place {
    core: Core,
    prefix: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) lease: LeaseId,
    /// When it was taken.
    pub(crate) revision: Revision,
    /// The store's revision at the answer.
    pub(crate) answered: Revision,
    /// What is under the key since before this call, if it is.
    pub(crate) found: Option<Arc<Entry>>,
    waits: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waits {
            let (core, key) = (self.core.clone(), self.key.clone());
            env::spawn(async move {
                // It goes with its lease otherwise.
                let _best_effort = core
                    .operate(Operation::DeleteRange(KeyRange::key(key)))
                    .await;
            });
        }
    }
}

impl Place {
    /// Waits until all who came earlier are gone.
    pub(crate) async fn turn(mut self) -> Result<Self, Status> {
        while let Some(before) = self.last_before().await? {
            self.core.deleted(&before, self.answered).await?;
        }
        self.waits = false;
        Ok(self)
    }

    /// The one that came just before; notes the revision at which it was seen.
    async fn last_before(&mut self) -> Result<Option<Vec<u8>>, Status> {
        let request = RangeRequest::newest(KeyRange::prefix(self.prefix.clone()));
        let found = self.core.kv.range(request).await.map_err(status)?;
        self.answered = found.revision;
        let earlier = found
            .entries
            .iter()
            .filter(|entry| entry.create_revision < self.revision);
        Ok(earlier
            .max_by_key(|entry| entry.create_revision)
            .map(|entry| entry.key.to_vec()))
    }
}

/// Where the places of a name are.
pub(crate) fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// Whether a key is the one that was made at a revision.
pub(crate) fn made_at(key: &[u8], revision: Revision) -> Compare {
    Compare {
        range: KeyRange::key(key),
        target: CompareTarget::CreateRevision(revision),
        operator: CompareOperator::Equal,
    }
}

impl Core {
    /// Takes a place, or finds the one that the lease has already.
    pub(crate) async fn take_place(
        &self,
        name: &[u8],
        lease: LeaseId,
        value: &[u8],
    ) -> Result<Place, Status> {
        let lease = match lease {
            0 => self.kv.lease_grant(0, LEASE_TTL).await.map_err(status)?.id,
            lease => lease,
        };
        let prefix = prefix(name);
        let key = [&prefix[..], format!("{lease:x}").as_bytes()].concat();
        let done = self
            .run(Txn {
                compares: vec![made_at(&key, 0)],
                success: vec![Operation::Put {
                    key: key.clone(),
                    value: Arc::from(value),
                    lease,
                }],
                failure: vec![Operation::Range(RangeRequest::newest(KeyRange::key(
                    key.clone(),
                )))],
            })
            .await?;
        let found = match done.results.into_iter().next() {
            Some(OperationResult::Range(found)) => found.entries.into_iter().next(),
            _ => None,
        };
        Ok(Place {
            core: self.clone(),
            prefix,
            key,
            lease,
            revision: found
                .as_ref()
                .map_or(done.revision, |entry| entry.create_revision),
            answered: done.revision,
            found,
            waits: true,
        })
    }

    /// Returns once a key that was there at `revision` is deleted.
    async fn deleted(&self, key: &[u8], revision: Revision) -> Result<(), Status> {
        let mut events = self.events(KeyRange::key(key), revision + 1).await?;
        loop {
            if let Event::Delete { .. } = events.next().await? {
                return Ok(());
            }
        }
    }

    pub(crate) async fn events(&self, range: KeyRange, start: Revision) -> Result<Events, Status> {
        let request = WatchRequest {
            range,
            start_revision: Some(start),
        };
        Ok(Events {
            stream: self.kv.watch(request).await.map_err(status)?,
            batch: VecDeque::new(),
        })
    }

    /// The oldest place of a name, and the store's revision.
    pub(crate) async fn first_place(
        &self,
        name: &[u8],
    ) -> Result<(Revision, Option<Arc<Entry>>), Status> {
        let request = RangeRequest::newest(KeyRange::prefix(prefix(name)));
        let found = self.kv.range(request).await.map_err(status)?;
        let first = found
            .entries
            .into_iter()
            .min_by_key(|entry| entry.create_revision);
        Ok((found.revision, first))
    }

    /// Gives a place up, if it still is the one that was taken; tells the store's revision.
    pub(crate) async fn give_up(&self, key: &[u8], revision: Revision) -> Result<Revision, Status> {
        let done = self
            .run(Txn {
                compares: vec![made_at(key, revision)],
                ..single(Operation::DeleteRange(KeyRange::key(key)))
            })
            .await?;
        Ok(done.revision)
    }
}

/// The events of a watch, one by one.
pub(crate) struct Events {
    stream: kv::WatchStream,
    batch: VecDeque<Event>,
}

impl Events {
    pub(crate) async fn next(&mut self) -> Result<Event, Status> {
        loop {
            if let Some(event) = self.batch.pop_front() {
                return Ok(event);
            }
            match self.stream.messages.recv().await {
                Some(WatchMessage::Events(events)) => {
                    self.batch = events.iter().cloned().collect();
                }
                Some(WatchMessage::Progress(_)) => {}
                Some(WatchMessage::Compacted { compact_revision }) => {
                    return Err(status(kv::Error::Compacted { compact_revision }));
                }
                None => return Err(Status::unavailable(STOPPED)),
            }
        }
    }
}
