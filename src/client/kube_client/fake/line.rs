//! A line to an API that can be cut: calls then fail at once or get no answer, and watches end.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::{
    Client, ClientError, ListRequest, ObjectList, Request, Response, Transport, WatchRequest,
    WatchStream,
};

const EVENTS_AHEAD: usize = 64;

/// How a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    Up,
    /// Every call fails at once.
    Refusing,
    /// No call is answered until the line is up again.
    Silent,
}

/// A transport over another one. Cloning it shares the state.
#[derive(Clone, Debug)]
pub struct FakeLine {
    beyond: Arc<dyn Transport>,
    state: Arc<watch::Sender<LineState>>,
}

impl FakeLine {
    pub fn new(beyond: Arc<dyn Transport>, state: LineState) -> Self {
        Self {
            beyond,
            state: Arc::new(watch::Sender::new(state)),
        }
    }

    pub fn set(&self, state: LineState) {
        self.state.send_replace(state);
    }

    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()))
    }

    async fn wait(&self) -> Result<(), ClientError> {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let state = state.wait_for(|state| *state != LineState::Silent).await;
        match state.map(|state| *state) {
            Ok(LineState::Refusing) => Err(ClientError::Unreachable("the line is cut".to_owned())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Transport for FakeLine {
    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        self.wait().await?;
        self.beyond.call(request).await
    }

    async fn list(&self, request: ListRequest) -> Result<ObjectList, ClientError> {
        self.wait().await?;
        self.beyond.list(request).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, ClientError> {
        self.wait().await?;
        let mut events = self.beyond.watch(request).await?;
        let (sender, receiver) = mpsc::channel(EVENTS_AHEAD);
        let mut state = self.state.subscribe();
        env::spawn(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    _cut = state.wait_for(|state| *state != LineState::Up) => return,
                    () = sender.closed() => return,
                    event = events.recv() => event,
                };
                let Some(event) = event else { return };
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}
