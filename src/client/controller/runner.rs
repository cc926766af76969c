//! Turns keys: waits for its own writes, observes, plans, acts, remembers, and tries again later what failed.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use apimachinery::ObjectKey;
use env::{Clock, Shutdown, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{Controller, Executor, Gate, Outcomes, Past, Plan, Queue};

const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_mins(1);

type Memory = Option<Box<dyn Any + Send>>;

/// A controller without its types, so that the runner exists once.
pub(crate) trait Turns: Send + Sync {
    /// One turn without its actions; `None` if the object is gone.
    fn turn(
        &self,
        key: &ObjectKey,
        kept: &mut Kept,
        now: Timestamp,
        monotonic: Duration,
    ) -> Option<Plan>;
}

pub(crate) struct Erased<C>(pub(crate) C);

impl<C: Controller> Turns for Erased<C> {
    fn turn(
        &self,
        key: &ObjectKey,
        kept: &mut Kept,
        now: Timestamp,
        monotonic: Duration,
    ) -> Option<Plan> {
        let memory = kept
            .memory
            .take()
            .and_then(|memory| memory.downcast::<C::Memory>().ok());
        let mut memory = memory.unwrap_or_default();
        let mut past = Past {
            memory: &mut *memory,
            outcomes: &kept.outcomes,
            now,
            monotonic,
        };
        let view = self.0.observe(key, &mut past)?;
        // A memory without content would only keep the key's entry alive.
        kept.memory = (size_of::<C::Memory>() > 0).then_some(memory as Box<dyn Any + Send>);
        Some(self.0.plan(&view, now))
    }
}

/// What is kept of a key between its turns.
#[derive(Default)]
pub(crate) struct Kept {
    memory: Memory,
    outcomes: Outcomes,
    gates: Vec<Gate>,
    failures: u32,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.memory.is_none()
            && self.outcomes.is_empty()
            && self.gates.is_empty()
            && self.failures == 0
    }
}

pub(crate) struct Runner {
    pub(crate) name: &'static str,
    pub(crate) controller: Box<dyn Turns>,
    pub(crate) queue: Arc<Queue<ObjectKey>>,
    pub(crate) executor: Executor,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) kept: Mutex<BTreeMap<ObjectKey, Kept>>,
}

impl Runner {
    /// Turns keys until the end is asked for; turns under way are finished.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            let key = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                key = self.queue.next() => key,
            };
            let kept = self.kept.lock().remove(&key).unwrap_or_default();
            if kept.gates.is_empty() {
                let permit = Arc::clone(&self.turns).acquire_owned().await;
                let runner = Arc::clone(&self);
                env::spawn(async move {
                    runner.turn(key, kept).await;
                    drop(permit);
                });
            } else {
                // Waiting for a cache must not keep others from their turn.
                let runner = Arc::clone(&self);
                env::spawn(async move {
                    for gate in &kept.gates {
                        gate.pass().await;
                    }
                    let _permit = runner.turns.acquire().await;
                    runner.turn(key, kept).await;
                });
            }
        }
    }

    async fn turn(&self, key: ObjectKey, mut kept: Kept) {
        kept.gates = Vec::new();
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let decided = catch_unwind(AssertUnwindSafe(|| {
            self.controller.turn(&key, &mut kept, now, monotonic)
        }));
        match decided {
            Ok(Some(plan)) => self.act(&key, &mut kept, plan).await,
            Ok(None) => {
                kept = Kept::default();
                self.queue.cancel_delay(&key);
            }
            Err(_panic) => {
                tracing::error!(controller = self.name, %key, "a turn panicked");
                kept = Kept {
                    failures: kept.failures + 1,
                    ..Kept::default()
                };
                self.queue.add_after(key.clone(), backoff(kept.failures));
            }
        }
        if !kept.is_empty() {
            self.kept.lock().insert(key.clone(), kept);
        }
        self.queue.done(&key);
    }

    async fn act(&self, key: &ObjectKey, kept: &mut Kept, plan: Plan) {
        let record = self.executor.act(plan.actions).await;
        for failure in &record.outcomes.failures {
            tracing::debug!(
                controller = self.name, %key, verb = ?failure.verb, resource = %failure.resource.resource,
                error = %failure.error, "an action failed"
            );
        }
        kept.failures = if record.is_failed() {
            kept.failures + 1
        } else {
            0
        };
        kept.gates = record.gates;
        kept.outcomes = record.outcomes;
        if !kept.outcomes.reads.is_empty() || !kept.outcomes.answers.is_empty() {
            self.queue.add(key.clone());
        }
        let retry = (kept.failures > 0).then(|| backoff(kept.failures));
        match retry.into_iter().chain(plan.again_after).min() {
            Some(delay) => self.queue.add_after(key.clone(), delay),
            None => self.queue.cancel_delay(key),
        }
    }
}

/// Doubles with each failure in a row.
fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(BACKOFF_MAX)
}
