//! Requests that no client sends: too large, too many, damaged on the way, or not gRPC at all.

use std::net::Ipv4Addr;

use bytes::Bytes;
use etcd_testing::pb;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::{Server, database, directory, quiet, run, told};

/// Sends bytes as the body of a call, and tells how it ends.
async fn raw(server: &Server, path: &str, body: Vec<u8>) -> (Code, String) {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port))
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    env::spawn(async move {
        let _ended = connection.await;
    });
    let request = Request::post(format!("http://127.0.0.1:{}{path}", server.port))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let headers = answer.headers().clone();
    let trailers = match answer.into_body().collect().await {
        Ok(body) => body.trailers().cloned().unwrap_or_default(),
        Err(_) => HeaderMap::new(),
    };
    let end = [trailers, headers]
        .into_iter()
        .find_map(|headers| tonic::Status::from_header_map(&headers));
    let end = end.expect("the call has an end");
    (end.code(), end.message().to_owned())
}

fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

async fn works(server: &Server) {
    server.put("works", b"1").await.unwrap();
}

#[test]
fn messages_that_are_too_large_are_refused_before_they_are_read() {
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), quiet()).await;
        let too_large = (
            Code::ResourceExhausted,
            "grpc: received message larger than max (4294967295 vs. 2097152)".to_owned(),
        );
        for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn"] {
            let body = framed(0, u32::MAX as usize, b"x");
            assert_eq!(raw(&server, path, body).await, too_large, "{path}");
        }
        for path in [
            "/etcdserverpb.Watch/Watch",
            "/etcdserverpb.Lease/LeaseKeepAlive",
        ] {
            let body = framed(0, u32::MAX as usize, b"x");
            assert_eq!(raw(&server, path, body).await, too_large, "{path}");
        }
        let put = server.put("large", &vec![0; 3 << 20]).await.unwrap_err();
        let expected = "grpc: received message larger than max (3145740 vs. 2097152)";
        assert_eq!(told(&put), (Code::ResourceExhausted, expected));
        // Between what a request may have and what a message may have, etcd looks at the request.
        let put = server.put("large", &vec![0; 3 << 19]).await.unwrap_err();
        let expected = "etcdserver: request is too large";
        assert_eq!(told(&put), (Code::InvalidArgument, expected));
        works(&server).await;
        server.stop().await;
    });
}

#[test]
fn frames_that_are_no_messages_end_their_call_and_nothing_else() {
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), quiet()).await;
        let good = pb::PutRequest {
            key: b"a".to_vec(),
            ..Default::default()
        };
        let good = good.encode_to_vec();
        let length = good.len();
        let bodies = [
            ("nothing", Vec::new()),
            ("half a head", vec![0, 0, 0]),
            ("half a message", framed(0, 100, &good)),
            ("no protobuf", framed(0, 7, &[0xff; 7])),
            ("a length beyond the end", framed(0, 3, &[0x0a, 0xff, 0x01])),
            ("compressed, it says", framed(1, length, &good)),
            ("an unknown flag", framed(77, length, &good)),
        ];
        for (what, body) in bodies {
            for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn"] {
                let (code, text) = raw(&server, path, body.clone()).await;
                assert!(
                    matches!(
                        code,
                        Code::Internal | Code::Unimplemented | Code::InvalidArgument
                    ),
                    "{what} at {path}: {code:?} {text}"
                );
            }
        }
        for path in ["/etcdserverpb.KV/Nothing", "/nothing.Such/Put"] {
            let (code, _) = raw(&server, path, framed(0, length, &good)).await;
            assert_eq!(code, Code::Unimplemented, "{path}");
        }
        assert_eq!(server.store_revision(), 1, "something was written");
        works(&server).await;
        let (_, metrics) = server.page("/metrics").await;
        let line = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",\
                    grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1";
        assert!(metrics.lines().any(|said| said == line), "{metrics}");
        server.stop().await;
    });
}

#[test]
fn bytes_that_are_no_http_end_their_connection_and_nothing_else() {
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), quiet()).await;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        // A frame of 16 MiB, one of an unknown type, settings of an odd length, a window of nothing.
        let frames: [&[u8]; 4] = [
            &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
            &[0, 0, 1, 0x77, 0, 0, 0, 0, 0, 1],
            &[0, 0, 3, 4, 0, 0, 0, 0, 0, 1, 2, 3],
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ];
        let mut openings: Vec<Vec<u8>> = frames
            .iter()
            .map(|frame| [&preface[..], frame].concat())
            .collect();
        openings.push(vec![0; 100_000]);
        openings.push(b"GET / HTTP/9.9\r\n\r\n".to_vec());
        openings.push(b"\x16\x03\x01\x02\x00\x01\x00".to_vec());
        for opening in openings {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port))
                .await
                .unwrap();
            let _closed_early = stream.write_all(&opening).await;
            stream.shutdown().await.ok();
            let mut said = Vec::new();
            let _reset = stream.read_to_end(&mut said).await;
            works(&server).await;
        }
        server.stop().await;
    });
}

#[test]
fn transactions_with_more_than_is_allowed_are_refused_in_etcds_words() {
    run(async {
        let folder = directory();
        let server = Server::start(&database(&folder), quiet()).await;
        let compare = pb::Compare {
            key: b"a".to_vec(),
            ..Default::default()
        };
        let many = pb::TxnRequest {
            compare: vec![compare; 10_000],
            ..Default::default()
        };
        let refused = server.client.call(many).await.unwrap_err();
        let expected = "etcdserver: too many operations in txn request";
        assert_eq!(told(&refused), (Code::InvalidArgument, expected));
        // Deeper than any decoder follows.
        let mut nested = pb::TxnRequest::default();
        for _ in 0..200 {
            nested = pb::TxnRequest {
                success: vec![pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestTxn(nested)),
                }],
                ..Default::default()
            };
        }
        let refused = server.client.call(nested).await.unwrap_err();
        assert!(
            matches!(refused.code(), Code::Internal | Code::InvalidArgument),
            "{refused}"
        );
        works(&server).await;
        server.stop().await;
    });
}
