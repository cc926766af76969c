//! Answers of the kubelet's server.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

pub(crate) use serving::{Answer, Body};

pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    with_type(
        status,
        "text/plain; charset=utf-8",
        text.into().into_bytes(),
    )
}

pub(crate) fn json(value: &serde_json::Value) -> Answer {
    with_type(
        StatusCode::OK,
        "application/json",
        value.to_string().into_bytes(),
    )
}

pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(whole(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static(content_type));
    answer
}

/// A body that grows as chunks arrive, and ends when their sender goes.
pub(crate) fn stream(chunks: mpsc::Receiver<Bytes>) -> Answer {
    let frames = futures_util::stream::unfold(chunks, |mut chunks| async move {
        Some((chunks.recv().await?, chunks))
    });
    let body = StreamBody::new(frames.map(|chunk| Ok(Frame::data(chunk))));
    let mut answer = Response::new(BodyExt::boxed_unsync(body));
    answer
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("text/plain"));
    answer
}

pub(crate) fn empty_body() -> Body {
    whole(Bytes::new())
}

fn whole(bytes: Bytes) -> Body {
    let body = Full::new(bytes);
    body.map_err(|never| match never {}).boxed_unsync()
}
