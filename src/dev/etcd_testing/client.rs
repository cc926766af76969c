//! A client of etcd's API on one connection: it neither retries nor connects again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use futures_util::Stream;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::pb;

/// Bytes on their way on one call, and on the connection.
const WINDOW_BYTES: u32 = 16 << 20;

/// A request that belongs to one call of the API.
pub trait Call: Message + Default + 'static {
    type Answer: Message + Default + 'static;
    const PATH: &'static str;
}

macro_rules! calls {
    ($($request:ident => $answer:ident, $path:literal;)+) => {
        $(impl Call for pb::$request {
            type Answer = pb::$answer;
            const PATH: &'static str = concat!("/etcdserverpb.", $path);
        })+
    };
}

calls! {
    PutRequest => PutResponse, "KV/Put";
    DeleteRangeRequest => DeleteRangeResponse, "KV/DeleteRange";
    TxnRequest => TxnResponse, "KV/Txn";
    RangeRequest => RangeResponse, "KV/Range";
    CompactionRequest => CompactionResponse, "KV/Compact";
    LeaseGrantRequest => LeaseGrantResponse, "Lease/LeaseGrant";
    LeaseRevokeRequest => LeaseRevokeResponse, "Lease/LeaseRevoke";
    LeaseTimeToLiveRequest => LeaseTimeToLiveResponse, "Lease/LeaseTimeToLive";
    LeaseLeasesRequest => LeaseLeasesResponse, "Lease/LeaseLeases";
    LeaseKeepAliveRequest => LeaseKeepAliveResponse, "Lease/LeaseKeepAlive";
    WatchRequest => WatchResponse, "Watch/Watch";
    HashKvRequest => HashKvResponse, "Maintenance/HashKV";
    HashRequest => HashResponse, "Maintenance/Hash";
    AlarmRequest => AlarmResponse, "Maintenance/Alarm";
    StatusRequest => StatusResponse, "Maintenance/Status";
}

#[derive(Clone, Debug)]
pub struct Client(Grpc<Connection>);

#[derive(Clone, Debug)]
struct Connection(SendRequest<Body>);

impl Client {
    /// Connects to a port of this machine.
    pub async fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .context("begin to speak HTTP/2")?;
        env::spawn(async move {
            // Whoever has a call open on it hears of it there.
            let _ended = connection.await;
        });
        let origin = Uri::try_from(format!("http://127.0.0.1:{port}"))?;
        let grpc = Grpc::with_origin(Connection(sender), origin)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Ok(Self(grpc))
    }

    pub async fn call<C: Call>(&self, request: C) -> Result<C::Answer, Status> {
        let mut grpc = self.0.clone();
        let path = PathAndQuery::from_static(C::PATH);
        let codec = ProstCodec::<C, C::Answer>::default();
        let answer = grpc
            .unary(tonic::Request::new(request), path, codec)
            .await?;
        Ok(answer.into_inner())
    }

    /// A call whose requests and answers come one by one. Whoever does not read the answers makes the server wait.
    pub fn stream<C: Call>(
        &self,
        requests: impl Stream<Item = C> + Send + 'static,
    ) -> mpsc::Receiver<Result<C::Answer, Status>> {
        let mut grpc = self.0.clone();
        let (queue, answers) = mpsc::channel(1);
        // etcd says nothing at all before its first answer, and that may need a request.
        env::spawn(async move {
            let path = PathAndQuery::from_static(C::PATH);
            let codec = ProstCodec::<C, C::Answer>::default();
            let begun = grpc.streaming(tonic::Request::new(requests), path, codec);
            match begun.await {
                Ok(answers) => forward(answers.into_inner(), queue).await,
                Err(status) => {
                    let _nobody_listens = queue.send(Err(status)).await;
                }
            }
        });
        answers
    }
}

async fn forward<T>(mut answers: Streaming<T>, queue: mpsc::Sender<Result<T, Status>>) {
    loop {
        let answer = tokio::select! {
            () = queue.closed() => return,
            answer = answers.message() => answer.transpose(),
        };
        let Some(answer) = answer else { return };
        if queue.send(answer).await.is_err() {
            return;
        }
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
