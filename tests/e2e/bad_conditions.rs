//! Connections that only cost, and a disk that is full: a limit holds, and others are answered as before.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Test;
use crate::support::objects::config_map;
use crate::support::server::work_dir;
use crate::support::{Options, Server, eventually, within};

pub(crate) const TESTS: &[Test] = &[
    (
        "thousands_of_idle_connections_disturb_nobody",
        idle_connections,
    ),
    ("half_open_handshakes_end_and_disturb_nobody", half_open),
    ("requests_that_never_end_disturb_nobody", slow_requests),
    ("a_full_disk_refuses_writes_and_recovers", full_disk),
];

const IDLE: usize = 3000;
const HALF_OPEN: usize = 500;
/// A server need not wait longer for a handshake or the head of a request.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(45);
/// What a connection may cost that says nothing.
const BYTES_PER_CONNECTION_MAX: u64 = 96 << 10;

fn answers_quickly(server: &Server) {
    let begun = Instant::now();
    let answer = server
        .http()
        .get("/api/v1/namespaces/default")
        .expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(
        begun.elapsed() < crate::bad_bodies::NORMAL,
        "a normal request took {:?}",
        begun.elapsed()
    );
}

/// Resident memory of the server in bytes.
fn memory(server: &Server) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a field");
    line.split_whitespace()
        .next()
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .expect("a number")
        << 10
}

fn idle_connections() {
    raise_file_limit();
    let server = Server::start("idle", &Options::control_plane_only());
    let before = memory(&server);
    let http = server.http();
    let mut connections = Vec::new();
    for number in 0..IDLE {
        // Half of them never say a word, half have a finished handshake.
        if number % 2 == 0 {
            connections.push((
                Some(TcpStream::connect(http.address()).expect("a connection")),
                None,
            ));
        } else {
            connections.push((None, http.connect().ok()));
        }
        if number % 500 == 0 {
            answers_quickly(&server);
        }
    }
    answers_quickly(&server);
    let grown = memory(&server).saturating_sub(before);
    assert!(
        grown < BYTES_PER_CONNECTION_MAX * IDLE as u64,
        "{grown} bytes for {IDLE} connections"
    );
    drop(connections);
    answers_quickly(&server);
    server.tear_down();
}

/// This process has both ends' worth of sockets in mind.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .expect("the hard limit is allowed");
}

fn half_open() {
    raise_file_limit();
    let server = Server::start("half-open", &Options::control_plane_only());
    let address = server.http().address();
    // The first bytes of a ClientHello that promises 512 more.
    let begun = [
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    let connect = || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(&begun).expect("sent");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..HALF_OPEN).map(|_number| connect()).collect();
    answers_quickly(&server);
    // Nonsense is told off at once.
    let mut nonsense = TcpStream::connect(address).expect("a connection");
    nonsense.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    nonsense
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let mut said = Vec::new();
    drop(nonsense.read_to_end(&mut said));
    assert!(
        said.is_empty() || said.starts_with(&[0x15]) || said.starts_with(b"HTTP/1."),
        "{said:?}"
    );
    within(
        HANDSHAKE_LIMIT,
        "the server gives up on every half-open handshake",
        || {
            streams.retain_mut(is_open);
            streams.is_empty().then_some(())
        },
    );
    answers_quickly(&server);
    server.tear_down();
}

fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_alert) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn slow_requests() {
    raise_file_limit();
    let server = Server::start("slow", &Options::control_plane_only());
    let http = server.http();
    let mut streams = Vec::new();
    for number in 0..200 {
        let mut stream = http.connect().expect("a connection");
        let head: &[u8] = match number % 2 {
            0 => b"GET /api HTTP/1.1\r\nhost: x\r\nx-slow: ",
            _ => b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
        };
        stream.write_all(head).expect("sent");
        stream.flush().expect("sent");
        streams.push(stream);
    }
    answers_quickly(&server);
    let created = http.post(
        "/api/v1/namespaces/default/configmaps",
        "application/json",
        config_map("normal", "a", "b").to_string().as_bytes(),
    );
    assert_eq!(created.status, 201, "{}", created.text());
    drop(streams);
    answers_quickly(&server);
    server.tear_down();
}

fn full_disk() {
    let data_dir = work_dir().join("small");
    std::fs::create_dir_all(&data_dir).expect("a folder");
    linux::mounts::tmpfs(&data_dir, "mode=711,size=24m").expect("a small disk");
    let options = Options {
        data_dir: Some(data_dir.clone()),
        ..Options::control_plane_only()
    };
    let server = Server::start("small", &options);
    let create = |name: &str| {
        let object = config_map(name, "key", &"x".repeat(50_000)).to_string();
        server.http().post(
            "/api/v1/namespaces/default/configmaps",
            "application/json",
            object.as_bytes(),
        )
    };
    assert_eq!(create("before").status, 201);
    let filler = data_dir.join("filler");
    fill(&filler);
    let refused = (0..200)
        .map(|number| create(&format!("full-{number}")))
        .find(|answer| answer.status != 201);
    let refused = refused.expect("a full disk refuses a write");
    let said = refused.json();
    assert!(refused.status >= 500, "{said}");
    assert_eq!(said["kind"], "Status", "{said}");
    let message = said["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("full") || message.contains("space"),
        "it says why: {said}"
    );
    // What is there can be read, and deleting the filler is all it takes.
    answers_quickly(&server);
    assert_eq!(
        server
            .http()
            .get("/api/v1/namespaces/default/configmaps/before")
            .expect("an answer")
            .status,
        200
    );
    std::fs::remove_file(filler).expect("the filler goes");
    eventually("writes work again", || {
        (create("after").status == 201).then_some(())
    });
    // Nothing half written is found after a restart.
    server.kill();
    server.run();
    server.wait_api();
    let kept = server
        .http()
        .get("/api/v1/namespaces/default/configmaps/after")
        .expect("an answer");
    assert_eq!(kept.status, 200, "{}", kept.text());
    server.tear_down();
    linux::mounts::unmount(&data_dir).expect("the small disk goes");
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    let block = [0; 4096];
    while file.write_all(&block).is_ok() {}
}
