//! A small HTTP/1.1 client over TLS that sends exactly what it is told, right or wrong.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// A server that says nothing for longer has failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Calls one server as the administrator.
#[derive(Clone)]
pub(crate) struct Http {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    /// More lines of every head.
    more: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }
}

impl Http {
    pub(crate) fn new(
        address: SocketAddr,
        authority: &[u8],
        certificate: &[u8],
        key: &[u8],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authority) {
            roots.add(authority.expect("PEM")).expect("a certificate");
        }
        let chain = CertificateDer::pem_slice_iter(certificate)
            .map(|one| one.expect("PEM"))
            .collect();
        let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("the certificate fits the key");
        Self {
            address,
            config: Arc::new(config),
            more: String::new(),
        }
    }

    /// As whom a kubeconfig with everything in it says, at another address.
    pub(crate) fn from_kubeconfig(address: SocketAddr, file: &Path) -> Self {
        let text = fs::read(file).expect("there is a kubeconfig");
        let config = codec::parse_yaml(&text).expect("it is YAML").document;
        let config = config.into_value().expect("a tree");
        let data = |value: &Value| {
            STANDARD
                .decode(value.as_str().expect("a field"))
                .expect("base64")
        };
        let (cluster, user) = (
            &config["clusters"][0]["cluster"],
            &config["users"][0]["user"],
        );
        Self::new(
            address,
            &data(&cluster["certificate-authority-data"]),
            &data(&user["client-certificate-data"]),
            &data(&user["client-key-data"]),
        )
    }

    /// The same with a header `Authorization`.
    pub(crate) fn with_authorization(&self, value: &str) -> Self {
        Self {
            more: format!("authorization: {value}\r\n"),
            ..self.clone()
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection whose handshake is done.
    pub(crate) fn connect(&self) -> io::Result<Tls> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        socket.set_write_timeout(Some(ANSWER_LIMIT))?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let client = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    pub(crate) fn get(&self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, "application/json", &[])
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send("POST", path, content_type, body)
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n\
             content-type: {content_type}\r\ncontent-length: {}\r\n{}connection: close\r\n\r\n",
            body.len(),
            self.more
        );
        let mut stream = self.connect()?;
        // A server may refuse before it has read everything: its answer counts, not our broken pipe.
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body))
            .and_then(|()| stream.flush());
        match sent {
            Ok(()) => answer(&mut stream),
            Err(error) => parse(said_before_closing(&mut stream)).map_err(|_nothing| error),
        }
    }
}

/// What the server said on a connection that takes no more from us.
fn said_before_closing(stream: &mut Tls) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(1..) = stream.conn.read_tls(&mut stream.sock) {
        if stream.conn.process_new_packets().is_err() {
            break;
        }
        // It says that it would block when everything was taken.
        drop(stream.conn.reader().read_to_end(&mut bytes));
    }
    bytes
}

/// Reads until the server closes.
pub(crate) fn answer(stream: &mut Tls) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(_cut) if !bytes.is_empty() => {}
        Err(error) => return Err(error),
    }
    parse(bytes)
}

fn parse(mut bytes: Vec<u8>) -> io::Result<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| {
        io::Error::other(format!(
            "no answer but {:?}",
            String::from_utf8_lossy(&bytes)
        ))
    })?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
    let body = bytes.split_off(end + 4);
    let body = if head.contains("transfer-encoding: chunked") {
        joined(&body)
    } else {
        body
    };
    Ok(Answer { status, body })
}

/// The bytes in a chunked body.
fn joined(mut chunked: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = chunked.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&chunked[..line])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let (Some(size), rest) = (size, &chunked[line + 2..]) else {
            break;
        };
        if size == 0 || rest.len() < size + 2 {
            break;
        }
        body.extend(&rest[..size]);
        chunked = &rest[size + 2..];
    }
    body
}
