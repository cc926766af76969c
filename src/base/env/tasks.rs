//! Tasks and timers.

use std::future::Future;
use std::time::Duration;

pub use tokio::task::JoinHandle;

/// The future did not finish within the time it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut;

impl std::fmt::Display for TimedOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("timed out")
    }
}

impl std::error::Error for TimedOut {}

/// Runs `future` as a task of its own; dropping the handle detaches it.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs `work` on a thread where blocking is allowed.
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(work)
}

pub async fn sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

pub async fn timeout<F: Future>(span: Duration, future: F) -> Result<F::Output, TimedOut> {
    tokio::time::timeout(span, future)
        .await
        .map_err(|_elapsed| TimedOut)
}
