//! Prints what a web server answers: `fetch http://host:port/path`, or `udp://` for a datagram. It needs no file but itself and the
//! resolver's settings.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(3);
const HTTP_PORT: u16 = 80;
const DATAGRAM_BYTES_MAX: usize = 8 * 1024;

fn main() -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: fetch URL");
        return ExitCode::from(2);
    };
    match fetch(&url) {
        Ok(body) => {
            print!("{body}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("fetch: {url}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(url: &str) -> io::Result<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().map_err(io::Error::other)?),
        None => (host, HTTP_PORT),
    };
    let address = (name, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("no address"))?;
    match scheme {
        "http" => over_tcp(address, host, path),
        "udp" => over_udp(address, path),
        _ => Err(io::Error::other("only http:// and udp:// are spoken")),
    }
}

fn over_tcp(address: SocketAddr, host: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_head, body)| body.to_owned());
    body.ok_or_else(|| io::Error::other(format!("no answer but {answer:?}")))
}

fn over_udp(address: SocketAddr, path: &str) -> io::Result<String> {
    let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.send(format!("/{path}").as_bytes())?;
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let count = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}
