//! What waits for the writer. Callers wait for a place without blocking; the writer's thread sleeps until there is something.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::{Durability, Error, LeaseId, LeaseStatus, Result, Revision, Txn, TxnResponse};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::committer::Maintenance;
use crate::pace::Gathering;

/// KiB of commands that wait at most, each counted as at least one; further callers wait for a place.
const QUEUE_KIB_MAX: u32 = 64 << 10;
/// Bytes of keys and values in one batch, unless one transaction has more: it has to fit `SQLite`'s page cache.
const BATCH_BYTES_MAX: usize = 4 << 20;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

#[derive(Debug)]
pub(crate) enum Command {
    Txn {
        txn: Txn,
        durability: Durability,
        reply: Reply<TxnResponse>,
    },
    Compact {
        revision: Revision,
        reply: Reply<()>,
    },
    /// Writes, also if there is nothing to write, so that a part of what is compacted goes with it.
    Sweep {
        reply: Reply<()>,
    },
    LeaseGrant {
        id: LeaseId,
        ttl: Duration,
        reply: Reply<LeaseStatus>,
    },
    LeaseRevoke {
        id: LeaseId,
        reply: Reply<Revision>,
    },
    Maintain {
        work: Maintenance,
        reply: Reply<usize>,
    },
}

impl Command {
    /// Answers with an error instead of doing it. Nobody listens if the caller gave up.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Txn { reply, .. } => drop(reply.send(Err(error))),
            Self::Compact { reply, .. } | Self::Sweep { reply } => drop(reply.send(Err(error))),
            Self::LeaseGrant { reply, .. } => drop(reply.send(Err(error))),
            Self::LeaseRevoke { reply, .. } => drop(reply.send(Err(error))),
            Self::Maintain { reply, .. } => drop(reply.send(Err(error))),
        }
    }

    fn weight(&self) -> (usize, usize) {
        match self {
            Self::Txn { txn, .. } => (txn.operations().max(1), txn.bytes()),
            Self::Compact { .. }
            | Self::Sweep { .. }
            | Self::LeaseGrant { .. }
            | Self::LeaseRevoke { .. }
            | Self::Maintain { .. } => (1, 0),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<(Command, OwnedSemaphorePermit)>,
    /// The writer sleeps until so many commands wait.
    wanted: usize,
    rung: bool,
    closing: bool,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) commands: Vec<Command>,
    pub(crate) operations: usize,
    /// Nothing follows.
    pub(crate) last: bool,
}

impl Queue {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            filled: Condvar::new(),
            places: Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize)),
        })
    }

    pub(crate) async fn push(&self, command: Command) -> Result<()> {
        let (_, bytes) = command.weight();
        let size = u32::try_from(1 + bytes / 1024)
            .unwrap_or(QUEUE_KIB_MAX)
            .min(QUEUE_KIB_MAX);
        let place = Arc::clone(&self.places).acquire_many_owned(size).await;
        let place = place.map_err(|_closed| Error::Closed)?;
        let mut inner = self.inner.lock();
        if inner.closing {
            return Err(Error::Closed);
        }
        inner.waiting.push_back((command, place));
        if inner.waiting.len() >= inner.wanted {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Commands that wait.
    pub(crate) fn length(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Wakes the writer to look at the time.
    pub(crate) fn ring(&self) {
        self.inner.lock().rung = true;
        self.filled.notify_one();
    }

    /// Refuses further commands; those that wait are still done.
    pub(crate) fn close(&self) {
        self.inner.lock().closing = true;
        self.filled.notify_one();
    }

    /// Waits for commands, at most `wait` (`None`: for ever), and takes a batch of them.
    pub(crate) fn take(&self, wait: Option<Duration>, gathering: Gathering) -> Taken {
        let mut inner = self.inner.lock();
        while inner.waiting.is_empty() && !inner.rung && !inner.closing {
            match wait {
                None => self.filled.wait(&mut inner),
                Some(span) => {
                    if span.is_zero() || self.filled.wait_for(&mut inner, span).timed_out() {
                        break;
                    }
                }
            }
        }
        if !inner.waiting.is_empty() {
            self.linger(&mut inner, gathering);
        }
        inner.rung = false;
        let mut commands = Vec::new();
        let (mut operations, mut bytes) = (0, 0);
        while operations < gathering.operations_max && bytes < BATCH_BYTES_MAX {
            let Some((command, _place)) = inner.waiting.pop_front() else {
                break;
            };
            let weight = command.weight();
            operations += weight.0;
            bytes += weight.1;
            commands.push(command);
        }
        Taken {
            commands,
            operations,
            last: inner.closing && inner.waiting.is_empty(),
        }
    }

    /// Gives those a moment who have just been answered and come again.
    fn linger(&self, inner: &mut MutexGuard<'_, Inner>, gathering: Gathering) {
        if gathering.linger.is_zero() {
            return;
        }
        let until = Instant::now() + gathering.linger;
        inner.wanted = gathering.wanted;
        while inner.waiting.len() < gathering.wanted && !inner.rung && !inner.closing {
            if self.filled.wait_until(inner, until).timed_out() {
                break;
            }
        }
        inner.wanted = 0;
    }
}
