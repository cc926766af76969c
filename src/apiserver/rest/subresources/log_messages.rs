//! A log over WebSocket: the same bytes, as messages.

use std::sync::Arc;

use apimachinery::ApiError;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CONNECTION, UPGRADE};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use streams::handshake;

use crate::body::ResponseBody;
use crate::filters::{Incoming, Response};
use crate::proxy::{Target, forward};
use crate::respond::text_response;
use crate::state::State;

/// Asks for the log as plain HTTP and, if there is one, passes it on in messages.
pub(crate) async fn forward_log(
    state: &Arc<State>,
    target: Target,
    mut request: Incoming,
) -> Result<Response, ApiError> {
    let upgrade = match handshake::output(&request.headers) {
        Ok(upgrade) => upgrade,
        Err(refusal) => {
            let mut answer = text_response(refusal.status.as_u16(), refusal.message.clone());
            answer.headers_mut().extend(refusal.headers());
            return Ok(answer);
        }
    };
    let Some(client) = request.extensions.remove::<OnUpgrade>() else {
        return Err(ApiError::bad_request("this connection cannot be upgraded"));
    };
    request.headers.remove(CONNECTION);
    request.headers.remove(UPGRADE);
    let log = forward(state, target, request).await?;
    if !log.status().is_success() {
        return Ok(log);
    }
    let encoding = upgrade.protocol;
    env::spawn(async move {
        let client = match client.await {
            Ok(client) => TokioIo::new(client),
            Err(error) => return tracing::debug!(%error, "an upgrade failed"),
        };
        let chunks = log
            .into_body()
            .into_data_stream()
            .map(|chunk| Ok::<Bytes, std::io::Error>(chunk.unwrap_or_else(|never| match never {})));
        let output = tokio_util::io::StreamReader::new(chunks);
        if let Err(error) = streams::send_output(client, encoding, output).await {
            tracing::debug!(%error, "a log's messages ended");
        }
    });
    Ok(upgrade.response.map(|()| ResponseBody::whole("")))
}
