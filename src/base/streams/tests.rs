//! Servers and clients against each other over every transport, and servers against hostile bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::handshake::{
    Encoding, PortForwardProtocol, RemoteCommandProtocol, RemoteCommandVersion,
};
use crate::port_forward::{PortForwardClient, PortForwardServer};
use crate::remote_command::{self, Outcome, TerminalSize, WantedStreams};
use crate::spdy::{Headers, SpdyConnection};
use crate::{Error, send_output};

const ALL: WantedStreams = WantedStreams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: true,
};
const LIMIT: Duration = Duration::from_secs(20);

/// A network cable.
fn cable() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(16 * 1024)
}

async fn within<F: Future>(future: F) -> F::Output {
    env::timeout(LIMIT, future).await.expect("nothing hangs")
}

async fn read_all(mut reader: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    all
}

/// Echoes stdin to stdout, says the terminal's size on stderr, and fails with a status.
async fn echo_command(io: DuplexStream, protocol: RemoteCommandProtocol) {
    let mut streams = remote_command::serve(io, protocol, ALL, None)
        .await
        .unwrap();
    let mut stderr = streams.stderr.take().unwrap();
    if let Some(mut resize) = streams.resize.take() {
        let size = resize.recv().await.unwrap();
        stderr
            .write_all(format!("{}x{}", size.width, size.height).as_bytes())
            .await
            .unwrap();
    }
    drop(stderr);
    let (mut stdin, mut stdout) = (
        streams.stdin.take().unwrap(),
        streams.stdout.take().unwrap(),
    );
    let mut buffer = vec![0; 7000];
    loop {
        let read = stdin.read(&mut buffer).await.unwrap();
        stdout.write_all(&buffer[..read]).await.unwrap();
        // Before v5 a WebSocket client cannot end its input.
        if read == 0 || buffer[..read].ends_with(b"\x04") {
            break;
        }
    }
    drop(stdout);
    let outcome = Outcome {
        status_json: br#"{"status":"Failure"}"#,
        failure: Some("exit 3"),
    };
    streams.error.finish(outcome).await.unwrap();
}

async fn run_echo(protocol: RemoteCommandProtocol, input: Vec<u8>) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (here, there) = cable();
    let server = env::spawn(echo_command(there, protocol));
    let mut client = remote_command::connect(here, protocol, ALL, None)
        .await
        .unwrap();
    if let Some(resize) = &mut client.resize {
        resize
            .send(TerminalSize {
                width: 80,
                height: 24,
            })
            .await
            .unwrap();
    }
    let mut stdin = client.stdin.take().unwrap();
    let writing = env::spawn(async move {
        stdin.write_all(&input).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let stderr = env::spawn(read_all(client.stderr.take().unwrap()));
    let stdout = read_all(client.stdout.take().unwrap()).await;
    writing.await.unwrap();
    let outcome = client.outcome.read().await.unwrap();
    server.await.unwrap();
    (stdout, stderr.await.unwrap(), outcome)
}

#[tokio::test]
async fn a_command_runs_over_every_protocol() {
    use Encoding::{Base64, Binary};
    use RemoteCommandProtocol::{Spdy, WebSocket};
    use RemoteCommandVersion::{V1, V2, V3, V4, V5};
    let mut input: Vec<u8> = (0..1_000_000u32)
        .map(|number| (number % 251 + 5) as u8)
        .collect();
    input.push(4);
    for (protocol, sizes, outcome) in [
        (WebSocket(V5, Binary), "80x24", r#"{"status":"Failure"}"#),
        (WebSocket(V4, Binary), "80x24", r#"{"status":"Failure"}"#),
        (WebSocket(V4, Base64), "80x24", r#"{"status":"Failure"}"#),
        (WebSocket(V1, Binary), "80x24", "exit 3"),
        (Spdy(V4), "80x24", r#"{"status":"Failure"}"#),
        (Spdy(V3), "80x24", "exit 3"),
        (Spdy(V2), "", "exit 3"),
    ] {
        let (stdout, stderr, said) = within(run_echo(protocol, input.clone())).await;
        assert!(
            stdout == input,
            "{protocol:?}: {} of {} bytes",
            stdout.len(),
            input.len()
        );
        assert_eq!(String::from_utf8(stderr).unwrap(), sizes, "{protocol:?}");
        assert_eq!(String::from_utf8(said).unwrap(), outcome, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_closed_channel_is_the_end_of_input() {
    let v5 = RemoteCommandProtocol::WebSocket(RemoteCommandVersion::V5, Encoding::Binary);
    let spdy = RemoteCommandProtocol::Spdy(RemoteCommandVersion::V4);
    for protocol in [v5, spdy] {
        let (stdout, _, _) = within(run_echo(protocol, b"no end mark".to_vec())).await;
        assert_eq!(stdout, b"no end mark", "{protocol:?}");
    }
}

#[tokio::test]
async fn a_server_learns_that_its_client_is_gone() {
    let v4 = RemoteCommandVersion::V4;
    for protocol in [
        RemoteCommandProtocol::WebSocket(v4, Encoding::Binary),
        RemoteCommandProtocol::Spdy(v4),
    ] {
        let (here, there) = cable();
        let client = env::spawn(async move {
            let streams = remote_command::connect(here, protocol, ALL, None)
                .await
                .unwrap();
            drop(streams);
        });
        let streams = within(remote_command::serve(there, protocol, ALL, None)).await;
        client.await.unwrap();
        // A client that vanished before all its streams were there is an error already.
        let Ok(mut streams) = streams else { continue };
        within(streams.disconnected.wait()).await;
        let mut stdout = streams.stdout.take().unwrap();
        within(async { while stdout.write_all(&[0; 1024]).await.is_ok() {} }).await;
    }
}

#[tokio::test]
async fn silence_of_a_pinged_peer_is_its_end() {
    let (_silent, there) = cable();
    let protocol = RemoteCommandProtocol::WebSocket(RemoteCommandVersion::V5, Encoding::Binary);
    let streams = remote_command::serve(there, protocol, ALL, Some(Duration::from_millis(20)))
        .await
        .unwrap();
    within(streams.disconnected.wait()).await;
}

/// Answers each connection with its port and what it sent; port 9 fails.
async fn forward(io: DuplexStream, protocol: PortForwardProtocol) {
    let mut server = PortForwardServer::new(io, protocol, &[80, 9])
        .await
        .unwrap();
    while let Some(mut request) = server.next().await {
        env::spawn(async move {
            if request.port == 9 {
                drop(request.writer);
                return request.error.fail("connection refused").await;
            }
            request
                .writer
                .write_all(format!("{}:", request.port).as_bytes())
                .await
                .unwrap();
            tokio::io::copy(&mut request.reader, &mut request.writer)
                .await
                .unwrap();
        });
    }
}

#[tokio::test]
async fn connections_to_ports_do_not_mix() {
    for protocol in [
        PortForwardProtocol::Spdy,
        PortForwardProtocol::SpdyInWebSocket,
    ] {
        let (here, there) = cable();
        let server = env::spawn(forward(there, protocol));
        let client = PortForwardClient::new(here, protocol).await.unwrap();
        let mut connections = Vec::new();
        for port in [80, 8080, 9, 443] {
            connections.push((port, within(client.open(port)).await.unwrap().into_parts()));
        }
        for (port, (reader, mut writer, failure)) in connections.into_iter().rev() {
            let data = vec![port.to_le_bytes()[0]; 200_000];
            let expected = [format!("{port}:").as_bytes(), &data].concat();
            env::spawn(async move {
                let _refused = writer.write_all(&data).await;
                let _refused = writer.shutdown().await;
            });
            let received = within(read_all(reader)).await;
            let failed = within(failure).await;
            if port == 9 {
                assert_eq!(
                    (received.len(), failed.as_deref()),
                    (0, Some("connection refused"))
                );
            } else {
                assert!(received == expected, "{protocol:?} port {port}");
                assert_eq!(failed, None);
            }
        }
        within(client.close()).await;
        within(server).await.unwrap();
    }
}

#[tokio::test]
async fn one_connection_serves_more_streams_than_it_may_hold_at_a_time() {
    let (here, there) = cable();
    env::spawn(forward(there, PortForwardProtocol::Spdy));
    let client = PortForwardClient::new(here, PortForwardProtocol::Spdy)
        .await
        .unwrap();
    for round in 0..700 {
        let (reader, mut writer, failure) = within(client.open(80)).await.unwrap().into_parts();
        writer.shutdown().await.unwrap();
        assert_eq!(within(read_all(reader)).await, b"80:", "round {round}");
        assert_eq!(within(failure).await, None);
    }
}

#[tokio::test]
async fn an_opened_stream_can_be_refused_or_reset() {
    let (here, there) = cable();
    let mut server = SpdyConnection::server(there);
    let client = SpdyConnection::client(here);
    let serving = env::spawn(async move {
        server.accept().await.unwrap().refuse().await;
        server
            .accept()
            .await
            .unwrap()
            .accept()
            .await
            .unwrap()
            .reset()
            .await;
        server
    });
    assert!(matches!(
        within(client.open(Headers::new().with("a", "b"))).await,
        Err(Error::Refused)
    ));
    let mut stream = within(client.open(Headers::new())).await.unwrap();
    assert_eq!(within(stream.read(&mut [0; 8])).await.unwrap(), 0);
    within(async { while stream.write_all(b"x").await.is_ok() {} }).await;
    within(serving).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection() {
    let text = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let wrong_version = vec![0x80, 2, 0, 1, 0, 0, 0, 0];
    let too_long = vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff];
    let bad_block = vec![
        0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff,
    ];
    let no_stream = vec![0, 0, 0, 0, 0, 0, 0, 1, 9];
    for hostile in [text, wrong_version, too_long, bad_block, no_stream] {
        let (mut here, there) = cable();
        let mut server = SpdyConnection::server(there);
        here.write_all(&hostile).await.unwrap();
        here.shutdown().await.unwrap();
        assert!(within(server.accept()).await.is_none(), "{hostile:?}");
        within(server.disconnected().wait()).await;
    }
}

#[tokio::test]
async fn output_goes_out_as_messages() {
    use futures_util::StreamExt;
    use tokio_tungstenite::tungstenite::{Message, protocol::Role};
    for (encoding, expected) in [
        (Encoding::Binary, Message::binary(&b"a line"[..])),
        (Encoding::Base64, Message::text("YSBsaW5l")),
    ] {
        let (here, there) = cable();
        let sending = env::spawn(send_output(there, encoding, &b"a line"[..]));
        let mut client = crate::web_socket::open(here, Role::Client).await;
        assert_eq!(within(client.next()).await.unwrap().unwrap(), expected);
        assert!(within(client.next()).await.unwrap().unwrap().is_close());
        while within(client.next()).await.is_some() {}
        within(sending).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn channels_of_a_port_begin_with_its_number() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::{Message, protocol::Role};
    let (here, there) = cable();
    env::spawn(forward(
        there,
        PortForwardProtocol::WebSocket(Encoding::Binary),
    ));
    let mut client = crate::web_socket::open(here, Role::Client).await;
    let mut received = Vec::new();
    for _ in 0..4 {
        received.push(
            within(client.next())
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .to_vec(),
        );
    }
    assert_eq!(received, [[0, 80, 0], [1, 80, 0], [2, 9, 0], [3, 9, 0]]);
    client
        .send(Message::binary(&b"\x00hello"[..]))
        .await
        .unwrap();
    let mut echoed = Vec::new();
    while !echoed.ends_with(b"80:hello") {
        let message = within(client.next()).await.unwrap().unwrap().into_data();
        if message[0] == 0 {
            echoed.extend_from_slice(&message[1..]);
        }
    }
}

#[tokio::test]
async fn a_silent_connection_ends_and_a_busy_one_does_not() {
    let (mut here, there) = cable();
    let limit = Duration::from_millis(200);
    let mut watched = crate::IdleTimeout::new(there, limit, env::SystemClock::shared());
    let begun = std::time::Instant::now();
    let mut bytes = 0;
    let ended = within(async {
        loop {
            // One byte at a time until the limit has passed, then silence.
            if begun.elapsed() < limit * 2 {
                here.write_all(b"x").await.unwrap();
            }
            match watched.read(&mut [0; 8]).await {
                Ok(read) => bytes += read,
                Err(error) => break error,
            }
        }
    })
    .await;
    assert_eq!(ended.kind(), std::io::ErrorKind::TimedOut);
    assert!(bytes > 1 && begun.elapsed() >= limit * 3);
}

#[tokio::test]
async fn no_damaged_frames_hang_or_crash_a_server() {
    let rng = env::SeededRng::shared(3);
    let recorded = recorded_session().await;
    for round in 0..300 {
        let mut bytes = recorded.clone();
        for _ in 0..=rng.below(4) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] = rng.next_u64().to_le_bytes()[0];
        }
        let (mut here, there) = tokio::io::duplex(1 << 20);
        let server = env::spawn(async move {
            let protocol = PortForwardProtocol::Spdy;
            let mut server = PortForwardServer::new(there, protocol, &[]).await.unwrap();
            let mut forwarded = 0;
            while let Some(mut request) = server.next().await {
                forwarded += 1;
                env::spawn(async move {
                    tokio::io::copy(&mut request.reader, &mut request.writer).await
                });
            }
            forwarded
        });
        // A server that gave up does not take the rest.
        let _given_up = here.write_all(&bytes).await;
        let _given_up = here.shutdown().await;
        assert!(within(server).await.unwrap() <= 3, "round {round}");
    }
}

/// What a client sends that opens two connections and writes on them.
async fn recorded_session() -> Vec<u8> {
    let (here, mut recorder) = tokio::io::duplex(1 << 20);
    let (far, server) = cable();
    env::spawn(forward(server, PortForwardProtocol::Spdy));
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let recording = env::spawn(async move {
        let mut recorded = Vec::new();
        let mut buffer = [0; 4096];
        let mut back = [0; 4096];
        loop {
            tokio::select! {
                read = recorder.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return recorded,
                    Ok(read) => {
                        recorded.extend_from_slice(&buffer[..read]);
                        far_write.write_all(&buffer[..read]).await.unwrap();
                    }
                },
                read = far_read.read(&mut back) => match read {
                    Ok(0) | Err(_) => return recorded,
                    Ok(read) => recorder.write_all(&back[..read]).await.unwrap(),
                },
            }
        }
    });
    let client = PortForwardClient::new(here, PortForwardProtocol::Spdy)
        .await
        .unwrap();
    for port in [80, 81] {
        let (reader, mut writer, _) = within(client.open(port)).await.unwrap().into_parts();
        writer.write_all(b"some data").await.unwrap();
        writer.shutdown().await.unwrap();
        within(read_all(reader)).await;
    }
    client.close().await;
    within(recording).await.unwrap()
}
