//! `grpc.health.v1.Health/Check` over HTTP/2, with its two tiny messages written and read by hand.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::probes::check::{Seen, user_agent};

const ANSWER_BYTES_MAX: usize = 64 * 1024;
const SERVING: u64 = 1;
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// `google.rpc.Code.UNIMPLEMENTED`.
const UNIMPLEMENTED: &str = "12";

pub(crate) async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Seen {
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    match env::timeout(limit, Box::pin(ask(host, port, &address, service))).await {
        Ok(seen) => seen,
        Err(_) => Seen::Failure(format!(
            "timeout: failed to connect service {address:?} within {}: context deadline exceeded",
            crate::worker::go_duration(limit)
        )),
    }
}

async fn ask(host: &str, port: u16, address: &str, service: &str) -> Seen {
    let refused = |why: String| {
        Seen::Failure(format!(
            "error: failed to connect service {address:?}: {why}"
        ))
    };
    let stream = match TcpStream::connect((host, port)).await {
        Ok(stream) => stream,
        Err(error) => {
            return refused(format!(
                "connection error: desc = \"transport: Error while dialing: dial tcp {address}: {}\"",
                crate::probes::http::describe(&error)
            ));
        }
    };
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = match handshake {
        Ok(made) => made,
        Err(error) => return refused(error.to_string()),
    };
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", user_agent())
        .body(Full::new(frame(service)));
    let Ok(request) = request else {
        return Seen::Unknown("the request cannot be made".to_owned());
    };
    let answer = async move {
        let response = sender.send_request(request).await?;
        let head = response.headers().clone();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        Ok::<_, hyper::Error>((head, body))
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ended = &mut connection => answer.await,
    };
    match answer {
        Err(error) => Seen::Failure(format!("error: health rpc probe failed: {error}")),
        Ok((_, Err(error))) => Seen::Failure(format!("error: health rpc probe failed: {error}")),
        Ok((head, Ok(body))) => {
            let trailers = body.trailers().cloned().unwrap_or_default();
            let find = |name: &str| {
                let value = trailers.get(name).or_else(|| head.get(name));
                value
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned()
            };
            judge(
                &find("grpc-status"),
                &find("grpc-message"),
                &body.to_bytes(),
            )
        }
    }
}

/// Length-prefixed `HealthCheckRequest{service}`.
fn frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put(message);
    frame.freeze()
}

fn put_varint(into: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        into.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8((value & 0x7f) as u8);
}

fn judge(code: &str, message: &str, body: &[u8]) -> Seen {
    match code {
        "" | "0" => {}
        UNIMPLEMENTED => {
            return Seen::Failure(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ));
        }
        code => {
            return Seen::Failure(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
            ));
        }
    }
    match status(body.get(5..).unwrap_or_default()) {
        SERVING => Seen::Success,
        other => {
            let name = usize::try_from(other)
                .ok()
                .and_then(|other| STATUSES.get(other))
                .unwrap_or(&"UNKNOWN");
            Seen::Failure(format!("service unhealthy (responded with {name:?})"))
        }
    }
}

/// Field 1 of `HealthCheckResponse`; the default is 0.
fn status(message: &[u8]) -> u64 {
    match message {
        [0x08, rest @ ..] => rest
            .iter()
            .take(10)
            .enumerate()
            .scan(true, |more, (index, byte)| {
                let part = (*more).then_some(u64::from(byte & 0x7f) << (7 * index.min(9)));
                *more = byte & 0x80 != 0;
                part
            })
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_healthy() {
        let body = |status: u8| [0, 0, 0, 0, 2, 0x08, status];
        assert_eq!(judge("0", "", &body(1)), Seen::Success);
        assert_eq!(
            judge("0", "", &body(2)),
            Seen::Failure("service unhealthy (responded with \"NOT_SERVING\")".into())
        );
        assert!(
            matches!(judge("12", "no", &[]), Seen::Failure(text) if text.contains("does not implement"))
        );
        assert_eq!(&frame("a")[..], [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
    }
}
