//! Paths beside the API on the same port: what a distribution offers to machines that are on their way into the cluster.
//!
//! They pass none of the API's filters, so they have limits of their own.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::ApiError;
use async_trait::async_trait;
use auth::{Credentials, User};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::body::Incoming as NetworkBody;
use hyper_util::rt::TokioIo;

use crate::body::{RequestBody, ResponseBody};
use crate::filters::Response;
use crate::kubelet::ByteStream;
use crate::state::State;

/// Answered at once, over all paths; connections that were switched to another protocol do not count.
pub(crate) const REQUESTS_MAX: usize = 32;
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Reading the body and answering take less.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A request to such a path.
#[derive(Debug)]
pub struct SideRequest {
    pub method: http::Method,
    pub path: String,
    pub authorization: Option<String>,
    pub peer: SocketAddr,
    /// Whom the connection's client certificate names.
    pub user: Option<User>,
    /// The protocol that the client would like to switch to.
    pub upgrade: Option<String>,
    pub body: Bytes,
}

/// What becomes of a connection that was switched.
pub type Switched = Box<dyn FnOnce(Box<dyn ByteStream>) + Send>;

/// The answer to a [`SideRequest`].
pub enum SideAnswer {
    Body {
        content_type: &'static str,
        body: Bytes,
    },
    /// Switch to `protocol`, and hand the connection to `then`.
    Switch {
        protocol: &'static str,
        then: Switched,
    },
}

/// Serves paths beside the API.
#[async_trait]
pub trait SidePaths: Send + Sync + fmt::Debug {
    fn serves(&self, path: &str) -> bool;

    async fn answer(&self, request: SideRequest) -> Result<SideAnswer, ApiError>;
}

/// Answers a request if its path is beside the API, else gives it back.
pub(crate) async fn respond(
    state: &Arc<State>,
    request: http::Request<NetworkBody>,
    peer: SocketAddr,
    peer_certificates: &[Vec<u8>],
) -> Result<Response, http::Request<NetworkBody>> {
    let Some(paths) = &state.config.side_paths else {
        return Err(request);
    };
    if !paths.serves(request.uri().path()) {
        return Err(request);
    }
    let answer = env::timeout(
        ANSWER_TIME_MAX,
        answer(state, &**paths, request, peer, peer_certificates),
    );
    let answer = answer
        .await
        .unwrap_or_else(|_slow| Err(ApiError::timeout("the answer took too long", 1)));
    Ok(answer.unwrap_or_else(|error| failure(&error)))
}

async fn answer(
    state: &State,
    paths: &dyn SidePaths,
    mut request: http::Request<NetworkBody>,
    peer: SocketAddr,
    peer_certificates: &[Vec<u8>],
) -> Result<Response, ApiError> {
    let _slot = state.side_requests.try_acquire().map_err(|_full| {
        ApiError::too_many_requests("Too many machines join at once, please try again later.", 1)
    })?;
    let credentials = Credentials {
        peer_certificates: peer_certificates.to_vec(),
        bearer_token: None,
    };
    let user = state.authenticator().authenticate(&credentials).await;
    let switching = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let header = |name| {
        let value: Option<&HeaderValue> = head.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let request = SideRequest {
        authorization: header(http::header::AUTHORIZATION),
        upgrade: header(UPGRADE),
        path: head.uri.path().to_owned(),
        method: head.method,
        peer,
        user: user.ok().flatten(),
        body: RequestBody::Network(body).read(BODY_BYTES_MAX).await?,
    };
    match paths.answer(request).await? {
        SideAnswer::Body { content_type, body } => {
            let mut response = Response::new(ResponseBody::whole(body));
            let value = HeaderValue::from_static(content_type);
            response.headers_mut().insert(CONTENT_TYPE, value);
            Ok(response)
        }
        SideAnswer::Switch { protocol, then } => {
            env::spawn(async move {
                match switching.await {
                    Ok(connection) => then(Box::new(TokioIo::new(connection))),
                    Err(error) => tracing::debug!(%error, protocol, "a connection is not switched"),
                }
            });
            let mut response = Response::new(ResponseBody::whole(Bytes::new()));
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static(protocol));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            Ok(response)
        }
    }
}

fn failure(error: &ApiError) -> Response {
    let body = error.to_status().to_string();
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() =
        http::StatusCode::from_u16(error.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}
