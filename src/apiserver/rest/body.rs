//! Bodies of requests and answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use apimachinery::ApiError;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};

type Chunks = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of an answer.
pub(crate) enum ResponseBody {
    /// All of it is there; `None` when it was sent.
    Whole(Option<Bytes>),
    /// As it comes: watches, logs, proxied answers.
    Stream(Chunks),
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => {
                write!(formatter, "{} bytes", bytes.as_ref().map_or(0, Bytes::len))
            }
            Self::Stream(_) => formatter.write_str("a stream"),
        }
    }
}

impl ResponseBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    pub(crate) fn stream(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Stream(Box::pin(chunks))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Stream(chunks) => chunks
                .as_mut()
                .poll_next(context)
                .map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The body of a request, not read yet.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Network(hyper::body::Incoming),
    InProcess(Bytes),
}

impl RequestBody {
    /// Reads all of it, up to `limit` bytes.
    pub(crate) async fn read(self, limit: usize) -> Result<Bytes, ApiError> {
        match self {
            Self::InProcess(bytes) if bytes.len() <= limit => Ok(bytes),
            Self::InProcess(_) => Err(too_large(limit)),
            Self::Network(body) => collect(body, limit).await,
        }
    }
}

/// What follows a body's limit is read and thrown away up to here, so that a client who sends all before it listens hears why.
const DRAINED_BYTES_MAX: usize = 16 * 1024 * 1024;

async fn collect(mut body: hyper::body::Incoming, limit: usize) -> Result<Bytes, ApiError> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("the body of the request cannot be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size = size.saturating_add(data.len());
        if size <= limit {
            chunks.push(data);
            continue;
        }
        chunks.clear();
        if size > limit.saturating_add(DRAINED_BYTES_MAX) {
            break;
        }
    }
    if size > limit {
        return Err(too_large(limit));
    }
    Ok(if chunks.len() == 1 {
        chunks.remove(0)
    } else {
        chunks.concat().into()
    })
}

fn too_large(limit: usize) -> ApiError {
    ApiError::too_large(format!("Request entity too large: limit is {limit}"))
}
