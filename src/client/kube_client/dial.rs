//! TCP connections to servers: straight, or through an HTTP proxy by `CONNECT` (RFC 9110 §9.3.6).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A proxy's answer to `CONNECT` is a status line and a few headers.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How servers are reached. The default is straight.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Dialer {
    proxy: Option<Proxy>,
    direct: Vec<Direct>,
}

#[derive(Clone, PartialEq, Eq)]
struct Proxy {
    host: String,
    port: u16,
    authorization: Option<String>,
}

/// What a `NO_PROXY` entry names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    Everything,
    Range(IpNet),
    /// This name and all below it.
    Domain(String),
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.proxy {
            None => formatter.write_str("Dialer(straight)"),
            Some(proxy) => write!(formatter, "Dialer(through {}:{})", proxy.host, proxy.port),
        }
    }
}

impl Dialer {
    /// Through `proxy` (`http://[user:password@]host:port`) to all but what `no_proxy` names: addresses, ranges and domains with
    /// commas between, `*` for everything.
    pub fn through(proxy: &str, no_proxy: &str) -> Result<Self, String> {
        Ok(Self {
            proxy: Some(Proxy::parse(proxy)?),
            direct: no_proxy
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty())
                .map(Direct::parse)
                .collect(),
        })
    }

    /// A connection to `host`, which may be a name or an address.
    pub async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let stream = match self.proxy_for(host) {
            None => TcpStream::connect((host, port)).await?,
            Some(proxy) => {
                let connected = env::timeout(ANSWER_TIME_MAX, proxy.connect(host, port)).await;
                connected.map_err(|slow| io::Error::new(io::ErrorKind::TimedOut, slow))??
            }
        };
        // Requests are small and must not wait for each other.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn proxy_for(&self, host: &str) -> Option<&Proxy> {
        let is_direct = self.direct.iter().any(|direct| direct.covers(host));
        self.proxy.as_ref().filter(|_proxy| !is_direct)
    }
}

impl Direct {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::Everything;
        }
        if let Ok(range) = entry.parse::<IpNet>() {
            return Self::Range(range);
        }
        match entry.parse::<IpAddr>() {
            Ok(address) => Self::Range(address.into()),
            Err(_a_name) => Self::Domain(
                entry
                    .trim_start_matches("*.")
                    .trim_start_matches('.')
                    .to_lowercase(),
            ),
        }
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Range(range) => host
                .parse::<IpAddr>()
                .is_ok_and(|address| range.contains(&address)),
            Self::Domain(domain) => {
                let host = host.to_lowercase();
                host.strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, String> {
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = whole
            .parse()
            .map_err(|error| format!("the proxy is no URL: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(
                "the proxy must be reached by http://; TLS to the proxy itself is not built"
                    .to_owned(),
            );
        }
        let authority = uri.authority().ok_or("the proxy has no host")?;
        let credentials = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        Ok(Self {
            host: authority
                .host()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authorization: credentials.map(|user| format!("Basic {}", STANDARD.encode(user))),
        })
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let target = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let answer = read_head(&mut stream).await?;
        let code = answer.split(' ').nth(1).unwrap_or_default();
        if code != "200" {
            let line = answer.lines().next().unwrap_or_default();
            let text = format!(
                "the proxy {}:{} refused to connect to {target}: {line}",
                self.host, self.port
            );
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
        }
        Ok(stream)
    }
}

/// Reads a head byte by byte: what follows belongs to the connection behind the proxy.
async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == ANSWER_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the proxy's answer does not end",
            ));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_no_proxy_names_is_reached_straight() {
        let dialer = Dialer::through("proxy:3128", "10.0.0.0/8, .example.com,one.test,::1")
            .expect("a proxy");
        for host in [
            "10.1.2.3",
            "a.example.com",
            "example.com",
            "one.test",
            "::1",
            "ONE.test",
        ] {
            assert!(dialer.proxy_for(host).is_none(), "{host}");
        }
        for host in ["11.0.0.1", "notexample.com", "two.test", "fd00::1"] {
            assert!(dialer.proxy_for(host).is_some(), "{host}");
        }
        assert!(Dialer::through("https://proxy", "").is_err());
    }

    #[tokio::test]
    async fn a_proxy_is_asked_to_connect_and_its_refusal_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        env::spawn(async move {
            for answer in [
                "HTTP/1.1 200 OK\r\n\r\nhello",
                "HTTP/1.1 407 Who are you\r\n\r\n",
            ] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let head = read_head(&mut stream).await.expect("a request");
                assert!(
                    head.starts_with("CONNECT far.test:6443 HTTP/1.1\r\n"),
                    "{head}"
                );
                assert!(head.contains("Proxy-Authorization: Basic dTpw"), "{head}");
                stream.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        let dialer = Dialer::through(&format!("http://u:p@127.0.0.1:{port}"), "").expect("a proxy");
        let mut stream = dialer.dial("far.test", 6443).await.expect("connected");
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.expect("five bytes");
        assert_eq!(&hello, b"hello");
        let refused = dialer
            .dial("far.test", 6443)
            .await
            .expect_err("refused")
            .to_string();
        assert!(refused.contains("407 Who are you"), "{refused}");
    }
}
