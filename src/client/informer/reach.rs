//! What the caches of one factory know of the server together: whether it answers, and whether it has had its time to.

use std::time::Duration;

use kube_client::ClientError;
use tokio::sync::watch;

/// A server that answers within this time has the first word; after it, what is remembered counts until it does.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Reach(watch::Sender<State>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was heard yet.
    Waiting,
    /// It has had its time.
    Late,
    Answering,
    Silent,
}

impl Reach {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::Waiting))
    }

    /// Ends the waiting for a first answer.
    pub(crate) async fn lose_patience(&self) {
        env::sleep(PATIENCE).await;
        self.go(|state| {
            if state == State::Waiting {
                State::Late
            } else {
                state
            }
        });
    }

    /// Returns when a call that was begun now takes too long; cancel safe.
    pub(crate) async fn too_late(&self) {
        let mut state = self.0.subscribe();
        loop {
            let now = *state.borrow_and_update();
            let patience = async {
                match now {
                    State::Late | State::Silent => {}
                    State::Answering => env::sleep(PATIENCE).await,
                    State::Waiting => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = patience => return,
                // The sender lives in `self`, so that waiting cannot fail.
                _changed = state.changed() => {}
            }
        }
    }

    /// Returns when a server that was silent answers somebody; never if it is not silent. Cancel safe.
    pub(crate) async fn heard_again(&self) {
        let mut state = self.0.subscribe();
        let was_silent = *state.borrow_and_update() == State::Silent;
        if was_silent && state.wait_for(|now| *now == State::Answering).await.is_ok() {
            return;
        }
        std::future::pending::<()>().await;
    }

    pub(crate) fn is_answering(&self) -> bool {
        *self.0.borrow() == State::Answering
    }

    pub(crate) fn answered(&self) {
        let before = self.go(|_| State::Answering);
        if matches!(before, State::Late | State::Silent) {
            tracing::info!("an API server answers");
        }
    }

    /// Tells it once, however many caches notice.
    pub(crate) fn failed(&self, error: &ClientError, what: &str, resource: &str) {
        if !is_silence(error) {
            tracing::warn!(resource, %error, "{what}");
            return;
        }
        if self.go(|_| State::Silent) == State::Silent {
            tracing::debug!(resource, %error, "{what}");
        } else {
            tracing::warn!(resource, %error, "no API server answers; caches stay as they are until one does");
        }
    }

    fn go(&self, next: impl FnOnce(State) -> State) -> State {
        let mut before = State::Waiting;
        self.0.send_if_modified(|state| {
            before = *state;
            *state = next(before);
            *state != before
        });
        before
    }
}

/// No word of a server: nothing came, or what stands before it spoke.
pub fn is_silence(error: &ClientError) -> bool {
    error
        .api()
        .is_none_or(|error| matches!(error.code, 401 | 429 | 500..))
}
