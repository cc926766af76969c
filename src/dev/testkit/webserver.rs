//! The sample workload: a web server that says which pod answered. It needs no file but itself. A datagram with a path gets the same answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const PORT: u16 = 8080;
/// What probes ask for, which nobody wants to read about.
const HEALTH: &str = "/healthz";
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer request line is refused.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse().ok())
        .unwrap_or(PORT);
    let listener =
        TcpListener::bind(("::", port)).or_else(|_no_ipv6| TcpListener::bind(("0.0.0.0", port)))?;
    let datagrams =
        UdpSocket::bind(("::", port)).or_else(|_no_ipv6| UdpSocket::bind(("0.0.0.0", port)))?;
    std::thread::spawn(move || answer_datagrams(&datagrams));
    println!("{} listens on port {port}", host_name());
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("a request failed: {error}");
            }
        });
    }
    Ok(())
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut request = String::new();
    let mut reader = BufReader::new(std::io::Read::take(
        stream.try_clone()?,
        REQUEST_BYTES_MAX as u64,
    ));
    reader.read_line(&mut request)?;
    let path = request.split_whitespace().nth(1).unwrap_or("/").to_owned();
    // The rest of the request is read so that closing does not reset the connection.
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    if path != HEALTH {
        println!("{peer} asked for {path}");
    }
    let body = body(&path, peer);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn answer_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; REQUEST_BYTES_MAX];
    loop {
        let answered = socket.recv_from(&mut buffer).and_then(|(count, peer)| {
            let path = String::from_utf8_lossy(&buffer[..count]);
            let body = body(path.trim(), peer.ip().to_canonical());
            socket.send_to(body.as_bytes(), peer)
        });
        if let Err(error) = answered {
            eprintln!("a datagram failed: {error}");
        }
    }
}

fn body(path: &str, peer: IpAddr) -> String {
    let version = std::env::var("VERSION").unwrap_or_else(|_unset| "1".to_owned());
    match path {
        HEALTH => "ok\n".to_owned(),
        "/hostname" => host_name(),
        "/version" => version,
        "/client" => peer.to_string(),
        _ => format!("Hello from {}, version {version}\n", host_name()),
    }
}
