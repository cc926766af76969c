//! Readers with a task, a socket or a directory of their own.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use env::{Shutdown, SystemClock};
use images::{ImageStore, Platform, UnpackLimits};
use serde_json::json;
use streams::handshake::{Encoding, RemoteCommandProtocol, RemoteCommandVersion};
use streams::remote_command::{self, WantedStreams};
use streams::spdy::SpdyConnection;
use testkit::Image;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;

use super::targets::{Fate, Judge, Samples};

const PIPE_BYTES: usize = 256 * 1024;
/// A reader that does not end when its peer is gone is a finding.
const END_LIMIT: Duration = Duration::from_secs(10);
const WANTED: WantedStreams = WantedStreams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};
const OVER_SPDY: RemoteCommandProtocol = RemoteCommandProtocol::Spdy(RemoteCommandVersion::V4);
const OVER_WEB_SOCKET: RemoteCommandProtocol =
    RemoteCommandProtocol::WebSocket(RemoteCommandVersion::V5, Encoding::Binary);

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("make a runtime")
}

/// What a client of ours sends in a session: the sample of its protocol.
async fn recorded(protocol: RemoteCommandProtocol) -> anyhow::Result<Vec<u8>> {
    let (client, outside) = tokio::io::duplex(PIPE_BYTES);
    let (inside, server) = tokio::io::duplex(PIPE_BYTES);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (mut from_client, mut to_client) = tokio::io::split(outside);
    let (mut from_server, mut to_server) = tokio::io::split(inside);
    let log = Arc::clone(&sent);
    env::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            log.lock()
                .expect("no writer panics")
                .extend_from_slice(&buffer[..count]);
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    });
    env::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let serve = remote_command::serve(server, protocol, WANTED, None);
    let connect = remote_command::connect(client, protocol, WANTED, None);
    let (served, connected) = tokio::join!(serve, connect);
    let (mut served, mut connected) = (served?, connected?);
    let mut stdin = connected.stdin.take().context("there is an input")?;
    stdin.write_all(b"hello\n").await?;
    stdin.shutdown().await?;
    let mut text = String::new();
    let mut input = served.stdin.take().context("there is an input")?;
    input.read_to_string(&mut text).await?;
    anyhow::ensure!(text == "hello\n", "the server read {text:?}");
    let sent = sent.lock().expect("no writer panics").clone();
    Ok(sent)
}

/// Sends a peer's bytes, then the end, and reads what comes until the other side has ended as well.
async fn send(mut peer: DuplexStream, bytes: &[u8]) {
    let (mut answers, mut writer) = tokio::io::split(&mut peer);
    let write = async {
        // Who hangs up in the middle has had enough.
        drop(writer.write_all(bytes).await);
        drop(writer.shutdown().await);
    };
    let mut sink = tokio::io::sink();
    let ((), _hung_up) = tokio::join!(write, tokio::io::copy(&mut answers, &mut sink));
}

async fn ended<T>(work: impl Future<Output = T>) -> T {
    let done = env::timeout(END_LIMIT, work).await;
    done.expect("the reader ends when its peer has")
}

pub(super) fn spdy() -> anyhow::Result<(Samples, Judge)> {
    let runtime = runtime()?;
    let sample = runtime.block_on(recorded(OVER_SPDY))?;
    let judge: Judge = Box::new(move |bytes| {
        let (peer, io) = tokio::io::duplex(PIPE_BYTES);
        let work = async {
            let serve = async {
                let mut connection = SpdyConnection::server(io);
                let mut opened = 0;
                while let Some(incoming) = connection.accept().await {
                    opened += 1;
                    if let Ok(mut stream) = incoming.accept().await {
                        env::spawn(async move {
                            let mut sink = tokio::io::sink();
                            drop(tokio::io::copy(&mut stream, &mut sink).await);
                        });
                    }
                }
                opened
            };
            let ((), opened) = tokio::join!(send(peer, bytes), serve);
            opened
        };
        match runtime.block_on(ended(work)) {
            0 => Fate::Refused,
            _ => Fate::Understood,
        }
    });
    Ok((vec![sample], judge))
}

pub(super) fn web_socket() -> anyhow::Result<(Samples, Judge)> {
    let runtime = runtime()?;
    let sample = runtime.block_on(recorded(OVER_WEB_SOCKET))?;
    let judge: Judge = Box::new(move |bytes| {
        let (peer, io) = tokio::io::duplex(PIPE_BYTES);
        let work = async {
            let serve = async {
                let served = remote_command::serve(io, OVER_WEB_SOCKET, WANTED, None).await;
                let mut text = Vec::new();
                if let Some(mut stdin) = served.ok().and_then(|mut streams| streams.stdin.take()) {
                    drop(stdin.read_to_end(&mut text).await);
                }
                text
            };
            let ((), text) = tokio::join!(send(peer, bytes), serve);
            text
        };
        if runtime.block_on(ended(work)).is_empty() {
            Fate::Refused
        } else {
            Fate::Understood
        }
    });
    Ok((vec![sample], judge))
}

/// A question for a name: header, labels, type and class.
fn question(id: u16, labels: &[&str], kind: u8) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in labels {
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend(label.bytes());
    }
    out.extend([0, 0, kind, 0, 1]);
    out
}

pub(super) fn dns() -> anyhow::Result<(Samples, Judge)> {
    let folder = tempfile::tempdir()?;
    let resolv_conf = folder.path().join("resolv.conf");
    // Nobody is asked: what is not the cluster's is not found.
    std::fs::write(&resolv_conf, "")?;
    let runtime = runtime()?;
    let config = dns::Config {
        cluster_domain: "cluster.local".to_owned(),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        service_addresses: vec![[127, 0, 0, 1].into()],
        resolv_conf,
    };
    let server = runtime.block_on(dns::Dns::bind(config, SystemClock::shared()))?;
    let address = *server.local_addresses().first().context("it listens")?;
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 443}]},
    });
    {
        let records = server.records();
        let mut records = records.write();
        records.put_namespace("default");
        records.put_service(&serde_json::from_value(service)?);
    }
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.set_read_timeout(Some(END_LIMIT))?;
    client.connect(address)?;
    let (trigger, shutdown) = Shutdown::new();
    let thread = std::thread::spawn(move || runtime.block_on(server.run(shutdown)));
    let samples = vec![
        question(
            60_001,
            &["kubernetes", "default", "svc", "cluster", "local"],
            1,
        ),
        question(
            60_002,
            &["10-0-0-1", "default", "pod", "cluster", "local"],
            28,
        ),
        // What is not the cluster's is answered later than the next question.
        question(60_003, &["1", "0", "0", "10", "in-addr", "arpa"], 12),
    ];
    let mut number = 0_u16;
    let judge: Judge = Box::new(move |bytes| {
        // They end with the target.
        let _kept = (&folder, &trigger, &thread);
        number = number.wrapping_add(1);
        // A datagram of this size is the largest that loopback takes.
        drop(client.send(&bytes[..bytes.len().min(60_000)]));
        let good = question(number, &["x", "cluster", "local"], 1);
        client.send(&good).expect("loopback takes it");
        let mut answer = [0; 4096];
        let mut fate = Fate::Refused;
        loop {
            let count = client
                .recv(&mut answer)
                .expect("a good question is answered");
            let no_error = answer[3] & 0xf != 1;
            if answer[..2] == number.to_be_bytes() && count >= good.len() {
                return fate;
            }
            if no_error {
                fate = Fate::Understood;
            }
        }
    });
    Ok((samples, judge))
}

pub(super) fn archive() -> anyhow::Result<(Samples, Judge)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("image.tar");
    Image::new()
        .directory("etc", 0o755)?
        .file("etc/a", b"hello", 0o644)?
        .symlink("b", "../etc/a")?
        .write("example.com/a:1", &path)?;
    let sample = std::fs::read(&path)?;
    let limits = UnpackLimits {
        bytes_max: 1 << 20,
        entries_max: 1000,
    };
    let inside = folder.path().join("agent");
    let store = ImageStore::open_for(&inside, Platform::host(), limits)?;
    let judge: Judge = Box::new(move |bytes| {
        let fate = Fate::of(&store.import_stream("an input", bytes));
        let outside = std::fs::read_dir(folder.path()).into_iter().flatten();
        assert_eq!(outside.count(), 2, "something was written outside");
        fate
    });
    Ok((vec![sample], judge))
}
