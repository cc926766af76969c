//! The bodies of calls, counted as they pass; and the words of an error that gRPC's two implementations put differently.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::metrics::Metrics;
use crate::services::MESSAGE_BYTES_MAX;

/// What tonic says of a message that is too large, before its numbers.
const TOO_LARGE: &str = "Error, decoded message length too large: found ";

/// A request's body that is counted.
pub(crate) fn received(body: Incoming, metrics: &Arc<Metrics>) -> Body {
    let metrics = Arc::clone(metrics);
    Body::new(body.map_frame(move |frame| {
        add(&metrics.received_bytes, &frame);
        frame
    }))
}

fn add(counter: &AtomicU64, frame: &Frame<Bytes>) {
    if let Some(data) = frame.data_ref() {
        counter.fetch_add(data.remaining() as u64, Ordering::Relaxed);
    }
}

/// An answer whose end is counted, in etcd's words.
pub(crate) fn sent(answer: Response<Body>, path: String, metrics: &Arc<Metrics>) -> Response<Body> {
    let answer = in_etcds_words(answer);
    let mut ending = Ending {
        path,
        metrics: Arc::clone(metrics),
        code: None,
    };
    // An error alone has its code among the headers.
    ending.read(answer.headers());
    answer.map(|inner| Body::new(Counting { inner, ending }))
}

/// A message that is too large is told as Go's gRPC tells it.
fn in_etcds_words(answer: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(answer.headers()) else {
        return answer;
    };
    match as_etcd(&status) {
        Some(status) => status.into_http(),
        None => answer,
    }
}

pub(crate) fn as_etcd(status: &Status) -> Option<Status> {
    let rest = status.message().strip_prefix(TOO_LARGE)?;
    let found = rest.split(' ').next()?;
    let text = format!("grpc: received message larger than max ({found} vs. {MESSAGE_BYTES_MAX})");
    Some(Status::new(Code::ResourceExhausted, text))
}

/// Counts the call when it is dropped: a client that goes before the end has canceled it.
struct Ending {
    path: String,
    metrics: Arc<Metrics>,
    code: Option<Code>,
}

impl Ending {
    fn read(&mut self, headers: &HeaderMap) {
        let code = headers.get("grpc-status").map(HeaderValue::as_bytes);
        self.code = code.map(Code::from_bytes).or(self.code);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.metrics.handled(&self.path, code);
    }
}

struct Counting {
    inner: Body,
    ending: Ending,
}

impl hyper::body::Body for Counting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            add(&self.ending.metrics.sent_bytes, frame);
            if let Some(trailers) = frame.trailers_ref() {
                self.ending.read(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
