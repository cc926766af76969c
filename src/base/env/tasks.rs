//! Tasks and timers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinError;
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
///
/// The runtime makes its code for each type of future that it is given, so it is given one type for each result.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let future: Pin<Box<dyn Future<Output = F::Output> + Send>> = Box::pin(future);
    tokio::spawn(future)
}

/// Runs `work` on a thread where blocking is allowed. It is not stopped when the answer is dropped.
pub fn spawn_blocking<F, T>(work: F) -> Blocking<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let result = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&result);
    let work: Box<dyn FnOnce() + Send> = Box::new(move || *filled.lock() = Some(work()));
    let task = tokio::task::spawn_blocking(work);
    Blocking { task, result }
}

/// The answer of work on another thread; an error if the work panicked or the runtime ends.
///
/// The answer goes by a place beside the task, so that the runtime knows one type of task whatever is asked.
#[derive(Debug)]
pub struct Blocking<T> {
    task: JoinHandle<()>,
    result: Arc<Mutex<Option<T>>>,
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(Pin::new(&mut self.task).poll(context))?;
        let result = self.result.lock().take();
        Poll::Ready(Ok(result.expect("work that ended has left its answer")))
    }
}

pub async fn sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

pub async fn timeout<F: Future>(span: Duration, future: F) -> Result<F::Output, TimedOut> {
    tokio::time::timeout(span, future)
        .await
        .map_err(|_elapsed| TimedOut)
}
