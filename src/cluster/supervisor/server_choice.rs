//! An agent's calls go to whichever server answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube_client::{
    ClientError, Dialer, HttpTransport, ListRequest, ObjectList, Request, Response, Route,
    Transport, WatchRequest, WatchStream,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tunnel::Servers;

const UNAUTHORIZED: u16 = 401;
/// A server that is reached at all has answered by then; the next one must have its turn while the caller still waits.
const DIAL_TIME_MAX: Duration = Duration::from_secs(5);

/// Connects to the first server that accepts a connection, whichever host was asked for.
#[derive(Debug)]
pub(crate) struct AnyServer {
    pub(crate) servers: Servers,
    pub(crate) dialer: Dialer,
}

#[async_trait]
impl Route for AnyServer {
    async fn connect(&self, _host: &str, _port: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no server is known");
        for server in self.servers.candidates() {
            let Some((host, port)) = split(&server) else {
                continue;
            };
            let dialled = env::timeout(DIAL_TIME_MAX, self.dialer.dial(host, port)).await;
            match dialled.map_err(|slow| io::Error::new(io::ErrorKind::TimedOut, slow)) {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) | Err(error) => {
                    self.servers.failed(&server);
                    last = error;
                }
            }
        }
        Err(last)
    }
}

/// Tells a server that accepts connections and answers nothing from one that works, and one that no longer knows this node.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) transport: HttpTransport,
    pub(crate) servers: Servers,
    /// A server does not take the node's certificate.
    pub(crate) refused: Arc<Notify>,
}

impl Judged {
    fn judge<T>(&self, outcome: Result<T, ClientError>) -> Result<T, ClientError> {
        let is_silent = matches!(outcome, Err(ClientError::Unreachable(_)));
        if let Some(asked) = self.servers.candidates().first() {
            if is_silent {
                self.servers.failed(asked);
            } else {
                self.servers.answered(asked);
            }
        }
        if outcome
            .as_ref()
            .is_err_and(|error| error.api().is_some_and(|error| is_refusal(error.code)))
        {
            self.refused.notify_one();
        }
        outcome
    }

    fn judge_answer(
        &self,
        outcome: Result<Response, ClientError>,
    ) -> Result<Response, ClientError> {
        let outcome = self.judge(outcome);
        if outcome.as_ref().is_ok_and(|answer| is_refusal(answer.code)) {
            self.refused.notify_one();
        }
        outcome
    }
}

fn is_refusal(code: u16) -> bool {
    code == UNAUTHORIZED
}

#[async_trait]
impl Transport for Judged {
    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        self.judge_answer(self.transport.call(request).await)
    }

    async fn call_accepting(
        &self,
        request: Request,
        accept: &'static str,
    ) -> Result<Response, ClientError> {
        self.judge_answer(self.transport.call_accepting(request, accept).await)
    }

    async fn list(&self, request: ListRequest) -> Result<ObjectList, ClientError> {
        self.judge(self.transport.list(request).await)
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, ClientError> {
        self.judge(self.transport.watch(request).await)
    }
}

/// Host and port of `host:port`; an IPv6 address may stand in brackets.
pub(crate) fn split(server: &str) -> Option<(&str, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host, port.parse().ok()?))
}

/// A client over any server.
pub(crate) fn judged(
    transport: HttpTransport,
    servers: &Servers,
    refused: Arc<Notify>,
) -> Arc<dyn Transport> {
    Arc::new(Judged {
        transport,
        servers: servers.clone(),
        refused,
    })
}
