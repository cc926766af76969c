//! The newest revision of etcd, as a consistent read must see it. All who ask while one question is on its way share the next one.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use kv::{Result, Revision};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

type Question = Shared<BoxFuture<'static, Result<Revision>>>;

#[derive(Debug)]
pub(crate) struct Fresh {
    /// The question that has not been asked yet.
    next: Arc<Mutex<Option<Question>>>,
    turn: Arc<Semaphore>,
}

impl Default for Fresh {
    fn default() -> Self {
        Self {
            next: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Fresh {
    /// A revision that is not older than this call. `ask` is only called once it is this question's turn.
    pub(crate) async fn revision<F>(
        &self,
        ask: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Revision>
    where
        F: Future<Output = Result<Revision>> + Send + 'static,
    {
        let question = {
            let mut next = self.next.lock();
            next.get_or_insert_with(|| {
                let (turn, next) = (Arc::clone(&self.turn), Arc::clone(&self.next));
                async move {
                    let _mine = turn.acquire().await.map_err(|_closed| kv::Error::Closed)?;
                    // Whoever comes from here on must not share an answer that may be older than the call.
                    *next.lock() = None;
                    ask().await
                }
                .boxed()
                .shared()
            })
            .clone()
        };
        question.await
    }
}
