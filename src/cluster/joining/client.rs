//! The agent's side of joining: whom to believe, then one request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Timestamp};
use kube_client::{
    ClientError, Credentials, HttpConfig, HttpTransport, Method, Request, Route, Transport, Trust,
};
use pki::{decode_pem, encode_pem};
use serde::{Deserialize, Serialize};

use crate::protocol::{AUTHORITIES_PATH, JOIN_PATH, JoinAnswer, JoinRequest, TIME_PATH};
use crate::service::authorization;
use crate::token::{AuthorityHash, JoinToken};

/// The name in every server's certificate, whatever address it is reached at.
pub const SERVER_NAME: &str = "kubernetes";
/// A clock that is this far off is not trusted with the dates of certificates.
const SKEW_TOLERATED: Duration = Duration::from_mins(5);
/// A list of authorities is a few kilobytes.
const AUTHORITIES_BYTES_MAX: usize = 64 * 1024;

/// What `/v1-combo/time` answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTime {
    pub unix_seconds: i64,
}

impl ServerTime {
    fn time(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.unix_seconds)
    }
}

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    #[error("the server {server} is not reached: {why}")]
    Unreachable { server: String, why: String },
    #[error(
        "at {server} answers a server whose authority is {shown}, and the token was made by one whose authority is {pinned}: the token is of another cluster, or somebody else answers at this address"
    )]
    Pin {
        server: String,
        shown: AuthorityHash,
        pinned: AuthorityHash,
    },
    #[error("{server} answers, but not as a server of Combo: {why}")]
    Answer { server: String, why: String },
    /// In the server's words.
    #[error("the server {server} refuses: {why}")]
    Refused { server: String, why: String },
}

impl JoinFailure {
    /// Whether trying again, without anybody changing anything, can help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// How an agent reaches the server that it was told.
#[derive(Clone, Debug)]
pub struct JoinClient {
    /// `host:port`
    pub server: String,
    pub route: Arc<dyn Route>,
    pub clock: Arc<dyn Clock>,
}

impl JoinClient {
    /// The certificates that sign servers, in PEM, checked against the token. A token that pins none believes whoever answers.
    pub async fn authorities(&self, token: &JoinToken) -> Result<String, JoinFailure> {
        let transport = self.transport(Trust::Anybody, Credentials::Anonymous, &self.clock)?;
        let body = self.get(&transport, AUTHORITIES_PATH).await?;
        let pem = Some(body)
            .filter(|body| body.len() <= AUTHORITIES_BYTES_MAX)
            .and_then(|body| String::from_utf8(body.to_vec()).ok())
            .unwrap_or_default();
        let certificates = decode_pem("CERTIFICATE", &pem);
        if certificates.is_empty() {
            return Err(self.odd("it shows no certificate authority"));
        }
        let Some(pinned) = token.pin else {
            let shown = AuthorityHash::of_pem(&pem);
            tracing::warn!(server = self.server, %shown, "the token pins no authority: whoever answers is believed; use the full token, K10…");
            return Ok(pem);
        };
        if AuthorityHash::of_pem(&pem) == pinned {
            return Ok(pem);
        }
        // While authorities are rolled over there are several, and a token is of one of them.
        let mut each = certificates
            .iter()
            .map(|certificate| encode_pem("CERTIFICATE", certificate));
        let found = each.find(|certificate| AuthorityHash::of_pem(certificate) == pinned);
        found.ok_or_else(|| JoinFailure::Pin {
            server: self.server.clone(),
            shown: AuthorityHash::of_pem(&pem),
            pinned,
        })
    }

    /// Sends a request to a server that one of `authorities` signed.
    pub async fn join(
        &self,
        authorities: &str,
        token: Option<&JoinToken>,
        request: &JoinRequest,
    ) -> Result<JoinAnswer, JoinFailure> {
        let credentials = match token {
            Some(token) => Credentials::Header(authorization(&token.secret)),
            None => Credentials::Anonymous,
        };
        let clock = self.clock_for_dates().await?;
        let trust = Trust::Authorities(authorities.as_bytes().to_vec());
        let transport = self.transport(trust, credentials, &clock)?;
        let body = serde_json::to_vec(request).map_err(|error| self.odd(&error.to_string()))?;
        let call = Request {
            method: Method::Post,
            path: JOIN_PATH.to_owned(),
            content_type: "application/json",
            body: Bytes::from(body),
        };
        let body = self.call(&transport, call).await?;
        serde_json::from_slice(&body).map_err(|error| self.odd(&error.to_string()))
    }

    /// What a server that need not prove itself says of the time.
    pub async fn server_time(&self) -> Result<Timestamp, JoinFailure> {
        let transport = self.transport(Trust::Anybody, Credentials::Anonymous, &self.clock)?;
        let body = self.get(&transport, TIME_PATH).await?;
        let time: ServerTime =
            serde_json::from_slice(&body).map_err(|error| self.odd(&error.to_string()))?;
        Ok(time.time())
    }

    /// The own clock, or the server's where the own is far off: a board without a battery must be able to join. What the server says of
    /// the time is not proven yet; believing it lets in nobody who has not the key of a certificate that an authority of ours once signed.
    async fn clock_for_dates(&self) -> Result<Arc<dyn Clock>, JoinFailure> {
        let server = self.server_time().await?;
        let own = self.clock.now();
        if own.distance(server) <= SKEW_TOLERATED {
            return Ok(Arc::clone(&self.clock));
        }
        tracing::warn!(own = %own.to_seconds_string(), server = %server.to_seconds_string(), "this machine's clock is off; the server's counts until it is set");
        Ok(Arc::new(Fixed {
            at: server,
            own: Arc::clone(&self.clock),
        }))
    }

    fn transport(
        &self,
        trust: Trust,
        credentials: Credentials,
        clock: &Arc<dyn Clock>,
    ) -> Result<HttpTransport, JoinFailure> {
        HttpTransport::new(&HttpConfig {
            server: format!("https://{}", self.server),
            trust,
            server_name: Some(SERVER_NAME.to_owned()),
            credentials,
            user_agent: format!("combo-agent/{}", env!("CARGO_PKG_VERSION")),
            route: Arc::clone(&self.route),
            clock: Arc::clone(clock),
        })
        .map_err(|error| self.odd(&error.to_string()))
    }

    async fn get(&self, transport: &HttpTransport, path: &str) -> Result<Bytes, JoinFailure> {
        let call = Request {
            method: Method::Get,
            path: path.to_owned(),
            content_type: "",
            body: Bytes::new(),
        };
        self.call(transport, call).await
    }

    async fn call(&self, transport: &HttpTransport, call: Request) -> Result<Bytes, JoinFailure> {
        let answer = transport
            .call(call)
            .await
            .map_err(|error| self.failed(error))?;
        if answer.code < 300 {
            return Ok(answer.body);
        }
        let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match status["message"].as_str() {
            // A server that starts, or is busy, says so with these codes.
            Some(why) if matches!(answer.code, 429 | 503 | 504) => Err(JoinFailure::Unreachable {
                server: self.server.clone(),
                why: why.to_owned(),
            }),
            Some(why) => Err(JoinFailure::Refused {
                server: self.server.clone(),
                why: why.to_owned(),
            }),
            None => Err(self.odd(&format!("its answer has the code {}", answer.code))),
        }
    }

    fn failed(&self, error: ClientError) -> JoinFailure {
        match error {
            ClientError::Unreachable(why) => JoinFailure::Unreachable {
                server: self.server.clone(),
                why,
            },
            other => self.odd(&other.to_string()),
        }
    }

    fn odd(&self, why: &str) -> JoinFailure {
        JoinFailure::Answer {
            server: self.server.clone(),
            why: why.to_owned(),
        }
    }
}

/// What the server behind `transport` says of the time.
pub async fn server_time(transport: &dyn Transport) -> Result<Timestamp, ClientError> {
    let call = Request {
        method: Method::Get,
        path: TIME_PATH.to_owned(),
        content_type: "",
        body: Bytes::new(),
    };
    let response = transport.call(call).await?;
    kube_client::answer(&response).map(|said: ServerTime| said.time())
}

/// A clock that stands: good for one handshake.
#[derive(Debug)]
struct Fixed {
    at: Timestamp,
    own: Arc<dyn Clock>,
}

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.at
    }

    fn monotonic(&self) -> Duration {
        self.own.monotonic()
    }
}
