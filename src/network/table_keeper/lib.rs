//! Keeps a table of the kernel as something wants it: applied off the runtime, with a rest after each change, again after a
//! failure, and anew when somebody else changed the table.
//!
//! Offered: [`Keeper`], which owns what is wanted, and [`Rules`], what it must be able to do.

use env::Clock;
use linux::netlink::nf_tables::{Applied, Drift, KeptTable};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// After a change the keeper rests so many times as long as the change took, so that a storm of changes costs little.
const REST_FACTOR: u32 = 5;
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A table, and what should be in it.
pub trait Rules: Send + 'static {
    /// What the rules are about, as a sentence begins with it: "Services".
    const WHAT: &'static str;
    type Error: Error + Send;

    fn table(&mut self) -> &mut KeptTable;

    /// Brings the kernel to what is wanted: all of it or, with an error, nothing. May block.
    fn apply(&mut self) -> Result<Applied, Self::Error>;
}

/// Whether the kernel is as it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    AsWanted,
    /// Apply again after the rest.
    Failed,
}

/// The owner of some rules.
#[derive(Debug)]
pub struct Keeper<R> {
    /// Away while the kernel is being changed on another thread; lost if that thread panicked.
    rules: Option<R>,
    clock: Arc<dyn Clock>,
    drift: Option<Drift>,
    rest: Duration,
    retry: Duration,
}

impl<R: Rules> Keeper<R> {
    pub fn new(rules: R, clock: Arc<dyn Clock>) -> Self {
        Self {
            rules: Some(rules),
            clock,
            drift: None,
            rest: Duration::ZERO,
            retry: RETRY_FIRST,
        }
    }

    pub fn rules(&mut self) -> &mut R {
        let rules = self.rules.as_mut();
        rules.expect("they are put back, or this task has ended")
    }

    /// Brings the kernel to what is wanted. Whoever cancels it has to make the keeper anew; a panic of the rules is the caller's.
    pub async fn apply(&mut self) -> Outcome {
        let rules = self.rules.take();
        let mut rules = rules.expect("they are put back, or this task has ended");
        let start = self.clock.monotonic();
        let work = env::spawn_blocking(move || {
            let applied = rules.apply();
            (rules, applied)
        });
        let (mut rules, applied) = match work.await {
            Ok(done) => done,
            // The table stands as it was; the one who runs this task starts it again.
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        };
        let is_missed = rules.table().is_shared() && self.drift.is_none() && self.watch(&mut rules);
        self.rules = Some(rules);
        let is_done = match applied {
            Ok(applied) => {
                tracing::debug!(?applied, "{} applied", R::WHAT);
                !is_missed
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, "{} were not applied", R::WHAT);
                false
            }
        };
        if !is_done {
            self.rest = self.retry;
            self.retry = (self.retry * 2).min(RETRY_MAX);
            return Outcome::Failed;
        }
        let took = self.clock.monotonic().saturating_sub(start);
        self.rest = (took * REST_FACTOR).clamp(REST_MIN, REST_MAX);
        self.retry = RETRY_FIRST;
        Outcome::AsWanted
    }

    /// Returns when it is time for another change, or for another try.
    pub async fn rest(&self) {
        env::sleep(self.rest).await;
    }

    /// Hears of changes by others from now on. Tells whether one came before, so that the table has to be made anew.
    fn watch(&mut self, rules: &mut R) -> bool {
        self.drift = Drift::watch(rules.table())
            .inspect_err(|error| {
                tracing::warn!(%error, "changes of the table by others go unnoticed: {}", R::WHAT);
            })
            .ok();
        let is_intact = rules.table().is_intact().unwrap_or(false);
        if !is_intact {
            rules.table().distrust();
        }
        !is_intact
    }

    /// Returns once somebody else changed the table, which is then made anew by the next `apply`. Cancel safe.
    pub async fn disturbed(&mut self) {
        let (Some(drift), Some(rules)) = (&mut self.drift, &mut self.rules) else {
            return std::future::pending().await;
        };
        drift.disturbed(rules.table()).await;
        rules.table().distrust();
    }
}
