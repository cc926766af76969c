//! Servers reach what agents allow, and nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use env::{SeededRng, Shutdown, ShutdownTrigger, sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;
use tunnel::{ByteStream, Doors, Link, OpenError, STREAMS_MAX, Servers, Target, Tunnels, serve};

const DEADLINE: Duration = Duration::from_secs(20);
const NODE: &str = "edge-1";

struct Pair {
    tunnels: Tunnels,
    end: ShutdownTrigger,
    kubelet: SocketAddr,
}

/// An agent that is connected, with a kubelet that echoes.
async fn connected() -> Pair {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let kubelet = listener.local_addr().expect("an address");
    env::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            env::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ended = tokio::io::copy(&mut reader, &mut writer).await;
                let _closed = writer.shutdown().await;
            });
        }
    });
    let doors = Doors {
        kubelet,
        ranges: vec!["10.42.1.0/24".parse().expect("a range")],
    };
    let (near, far) = duplex(64 * 1024);
    env::spawn(serve(far, Arc::new(doors)));
    let tunnels = Tunnels::default();
    let (end, shutdown) = Shutdown::new();
    let held = tunnels.clone();
    env::spawn(async move { held.hold(NODE, near, &shutdown).await });
    until(|| tunnels.is_connected(NODE)).await;
    Pair {
        tunnels,
        end,
        kubelet,
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, wait)
        .await
        .expect("the condition holds in time");
}

#[tokio::test]
async fn many_streams_carry_their_own_bytes() {
    let pair = connected().await;
    let mut tasks = Vec::new();
    for number in 0..50_u8 {
        let tunnels = pair.tunnels.clone();
        tasks.push(env::spawn(async move {
            let mut stream = tunnels.open(NODE, Target::Kubelet).await.expect("open");
            let sent = vec![number; 300_000];
            let (mut reader, mut writer) = tokio::io::split(&mut stream);
            let write = async {
                writer.write_all(&sent).await.expect("written");
                writer.shutdown().await.expect("ended");
            };
            let mut back = Vec::new();
            let read = reader.read_to_end(&mut back);
            let ((), read) = tokio::join!(write, read);
            read.expect("read");
            assert!(back == sent, "stream {number} got {} bytes", back.len());
        }));
    }
    for task in tasks {
        timeout(DEADLINE, task)
            .await
            .expect("in time")
            .expect("no panic");
    }
}

#[tokio::test]
async fn only_pods_and_services_are_reached() {
    let pair = connected().await;
    let mut foreign = vec![pair.kubelet];
    foreign.extend(
        [
            "169.254.169.254:80",
            "192.168.1.1:22",
            "[::1]:22",
            "0.0.0.0:22",
        ]
        .map(|address| address.parse::<SocketAddr>().expect("an address")),
    );
    for address in foreign {
        let refused = pair.tunnels.open(NODE, Target::Address(address)).await;
        assert!(
            matches!(refused, Err(OpenError::Refused { .. })),
            "{address}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_pod_that_cannot_be_reached_is_said_so() {
    let pair = connected().await;
    let nowhere = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 1);
    let doors = Doors {
        kubelet: nowhere,
        ranges: Vec::new(),
    };
    let (near, far) = duplex(1024);
    env::spawn(serve(far, Arc::new(doors)));
    let (_end, shutdown) = Shutdown::new();
    let tunnels = pair.tunnels.clone();
    env::spawn(async move { tunnels.hold("closed", near, &shutdown).await });
    until(|| pair.tunnels.is_connected("closed")).await;
    let refused = pair.tunnels.open("closed", Target::Kubelet).await;
    let error = refused.expect_err("nothing listens").to_string();
    assert!(error.contains("dial tcp 127.0.0.1:1: connect"), "{error}");
}

#[tokio::test]
async fn there_is_a_limit_to_streams_and_it_is_told() {
    let pair = connected().await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(
            pair.tunnels
                .open(NODE, Target::Kubelet)
                .await
                .expect("open"),
        );
    }
    let one_more = pair.tunnels.open(NODE, Target::Kubelet).await;
    assert!(
        matches!(one_more, Err(OpenError::Busy { .. })),
        "{one_more:?}"
    );
    streams.clear();
    pair.tunnels
        .open(NODE, Target::Kubelet)
        .await
        .expect("the connection still serves");
}

#[tokio::test]
async fn a_node_that_is_gone_is_not_connected() {
    let pair = connected().await;
    pair.end.trigger();
    until(|| !pair.tunnels.is_connected(NODE)).await;
    let error = pair.tunnels.open(NODE, Target::Kubelet).await;
    assert!(
        matches!(error, Err(OpenError::NotConnected(_))),
        "{error:?}"
    );
}

/// A server that refuses every connection.
struct Refusing(AtomicUsize);

#[async_trait]
impl Link for Refusing {
    async fn connect(&self, _server: &str) -> io::Result<Box<dyn ByteStream>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_somebody_again_is_dialled_at_once() {
    const SERVER: &str = "a:1";
    let folder = tempfile::tempdir().expect("a folder");
    let servers = Servers::open(&folder.path().join("servers.json"), SERVER);
    let link = Arc::new(Refusing(AtomicUsize::new(0)));
    let dialled = || link.0.load(Ordering::Relaxed);
    let doors = Doors {
        kubelet: ([127, 0, 0, 1], 1).into(),
        ranges: Vec::new(),
    };
    let (_end, shutdown) = Shutdown::new();
    env::spawn(tunnel::keep(
        servers.clone(),
        link.clone(),
        Arc::new(doors),
        SeededRng::shared(1),
        shutdown,
    ));
    // By now the pauses are long; right behind a try the next is far.
    sleep(Duration::from_secs(300)).await;
    let seen = dialled();
    while dialled() == seen {
        sleep(Duration::from_millis(100)).await;
    }
    servers.failed(SERVER);
    let before = dialled();
    for _other_calls in 0..3 {
        servers.answered(SERVER);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(dialled(), before + 1, "once, and at once");
    }
}
