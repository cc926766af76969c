use std::time::Duration;

use bytes::Bytes;
use env::Shutdown;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{Answer, Http, Http2, Limits, Service};

const HTTP: Http = Http {
    header_time_max: Duration::from_secs(30),
    http1_buffer_bytes_max: 64 << 10,
    http2: Some(Http2 {
        streams_max: 10,
        stream_window_bytes: 64 << 10,
        connection_window_bytes: None,
        send_buffer_bytes_max: 64 << 10,
        header_bytes_max: 64 << 10,
        ping_every: Duration::from_secs(30),
        ping_time_max: Duration::from_secs(15),
    }),
    drain_time_max: Duration::from_secs(30),
};

fn whole(text: &str) -> Answer {
    let body = Full::new(Bytes::from(text.to_owned()));
    Response::new(body.map_err(|never| match never {}).boxed_unsync())
}

fn echo() -> Service {
    crate::service(|request| async move { whole(request.uri().path()) })
}

fn limits(connections_max: u32) -> Limits {
    Limits {
        connections_max,
        drain_time_max: Duration::from_secs(30),
    }
}

/// Every wait of a test ends: what does not come fails it.
async fn soon<F: Future>(future: F) -> F::Output {
    env::timeout(Duration::from_secs(30), future)
        .await
        .expect("in time")
}

async fn text(answer: Response<hyper::body::Incoming>) -> Bytes {
    answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes()
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(path).header("host", "h");
    request.body(Empty::new()).expect("a request")
}

#[tokio::test]
async fn both_versions_of_http_are_answered_and_the_end_closes_what_is_idle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (end, shutdown) = Shutdown::new();
    let server = env::spawn(async move {
        let one = |stream| {
            let shutdown = shutdown.clone();
            async move {
                let served = crate::serve_http(stream, &HTTP, echo(), &shutdown).await;
                served.expect("a clean end");
            }
        };
        crate::accept_each(listener, "a test", limits(8), &shutdown, one).await;
    });
    let stream = TcpStream::connect(address).await.expect("connected");
    let (mut one, connection) = http1::handshake(TokioIo::new(stream)).await.expect("1.1");
    env::spawn(connection);
    let stream = TcpStream::connect(address).await.expect("connected");
    let (mut two, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("2");
    env::spawn(connection);
    let answer = soon(one.send_request(get("/a"))).await.expect("an answer");
    assert_eq!(soon(text(answer)).await, "/a");
    let answer = soon(two.send_request(get("http://h/b")))
        .await
        .expect("an answer");
    assert_eq!(soon(text(answer)).await, "/b");
    end.trigger();
    soon(server).await.expect("no panic");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "it still listens"
    );
}

#[tokio::test]
async fn more_connections_than_there_may_be_wait_for_a_place() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (_end, shutdown) = Shutdown::new();
    env::spawn(async move {
        let echo = |mut stream: TcpStream| async move {
            let mut byte = [0; 1];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.expect("written");
            }
        };
        crate::accept_each(listener, "a test", limits(1), &shutdown, echo).await;
    });
    let mut first = TcpStream::connect(address).await.expect("connected");
    first.write_all(b"1").await.expect("written");
    assert_eq!(soon(first.read_u8()).await.expect("echoed"), b'1');
    let mut second = TcpStream::connect(address)
        .await
        .expect("in the kernel's queue");
    second.write_all(b"2").await.expect("written");
    // The first has the only place: its second byte is echoed, the other's first is not.
    first.write_all(b"3").await.expect("written");
    assert_eq!(soon(first.read_u8()).await.expect("echoed"), b'3');
    let early = second.try_read(&mut [0; 1]);
    assert!(early.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    drop(first);
    assert_eq!(soon(second.read_u8()).await.expect("echoed"), b'2');
}
