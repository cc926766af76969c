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
    patience: Option<Duration>,
}

#[derive(Clone, PartialEq, Eq)]
struct Proxy {
    host: String,
    port: u16,
    authorization: Option<String>,
}

/// What a `NO_PROXY` entry names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Direct {
    hosts: Hosts,
    /// `None`: all.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
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
    /// Through `proxy` (`http://[user:password@]host:port`) to all but this machine and what `no_proxy` names: addresses, ranges and
    /// domains, also with a port, with commas between, and `*` for everything.
    pub fn through(proxy: &str, no_proxy: &str) -> Result<Self, String> {
        Ok(Self {
            proxy: Some(Proxy::parse(proxy)?),
            direct: no_proxy
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty())
                .map(Direct::parse)
                .collect(),
            patience: None,
        })
    }

    /// The same, but what is in these ranges is reached straight.
    #[must_use]
    pub fn straight_to(mut self, ranges: &[IpNet]) -> Self {
        let ranges = ranges.iter().map(|range| Direct {
            hosts: Hosts::Range(*range),
            port: None,
        });
        self.direct.extend(ranges);
        self
    }

    /// The same, but a connection ends when what was sent over it is not taken for `patience`: for servers that always read.
    #[must_use]
    pub fn giving_up_after(self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }

    /// A connection to `host`, which may be a name or an address.
    pub async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let stream = match self.proxy_for(host, port) {
            None => TcpStream::connect((host, port)).await?,
            Some(proxy) => {
                let connected = env::timeout(ANSWER_TIME_MAX, proxy.connect(host, port)).await;
                connected.map_err(|slow| io::Error::new(io::ErrorKind::TimedOut, slow))??
            }
        };
        // Requests are small and must not wait for each other.
        stream.set_nodelay(true)?;
        if let Some(patience) = self.patience {
            linux::tcp::end_if_not_taken(&stream, patience).map_err(io::Error::other)?;
        }
        Ok(stream)
    }

    fn proxy_for(&self, host: &str, port: u16) -> Option<&Proxy> {
        let is_direct =
            is_this_machine(host) || self.direct.iter().any(|direct| direct.covers(host, port));
        self.proxy.as_ref().filter(|_proxy| !is_direct)
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |one| {
        one.is_loopback()
    })
}

impl Direct {
    fn parse(entry: &str) -> Self {
        let of = |hosts| Self { hosts, port: None };
        if entry == "*" {
            return of(Hosts::All);
        }
        if let Ok(range) = entry.parse::<IpNet>() {
            return of(Hosts::Range(range));
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            return of(Hosts::Range(address.into()));
        }
        let with_port = entry.rsplit_once(':');
        if let Some((host, port)) = with_port
            && let Ok(port) = port.parse()
        {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            return Self {
                port: Some(port),
                ..Self::parse(host)
            };
        }
        let name = entry.trim_start_matches("*.").trim_start_matches('.');
        of(Hosts::Domain(name.to_lowercase()))
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
            && match &self.hosts {
                Hosts::All => true,
                Hosts::Range(range) => host
                    .parse::<IpAddr>()
                    .is_ok_and(|address| range.contains(&address)),
                Hosts::Domain(domain) => {
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
            authorization: credentials
                .map(|user| format!("Basic {}", STANDARD.encode(percent_decoded(user)))),
        })
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let mut stream = connected.map_err(|error| {
            let text = format!(
                "the proxy {}:{} is not reached: {error}",
                self.host, self.port
            );
            io::Error::new(error.kind(), text)
        })?;
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
            let advice = match (code, &self.authorization) {
                ("407", None) => {
                    "; it wants to know who asks: say http://user:password@host:port as the proxy"
                }
                ("407", Some(_)) => "; it does not know this user and password",
                _ => "",
            };
            let text = format!(
                "the proxy {}:{} refused to connect to {target}: {line}{advice}",
                self.host, self.port
            );
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
        }
        Ok(stream)
    }
}

/// Letters that have a meaning in a URL stand in a password as `%` and two digits.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&letter, behind)) = rest.split_first() {
        let digits = behind
            .first_chunk::<2>()
            .filter(|digits| letter == b'%' && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            decoded.push(byte);
            rest = &behind[2..];
        } else {
            decoded.push(letter);
            rest = behind;
        }
    }
    decoded
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
        let no_proxy = "10.0.0.0/8, .example.com,one.test,::2,two.test:80,[fd00::2]:80";
        let dialer = Dialer::through("proxy:3128", no_proxy).expect("a proxy");
        let dialer = dialer.straight_to(&["192.0.2.0/24".parse().expect("a range")]);
        for host in [
            "10.1.2.3",
            "192.0.2.9",
            "localhost",
            "127.0.0.7",
            "a.example.com",
            "example.com",
            "one.test",
            "::1",
            "::2",
            "ONE.test",
        ] {
            assert!(dialer.proxy_for(host, 443).is_none(), "{host}");
        }
        for host in ["11.0.0.1", "notexample.com", "two.test", "fd00::2"] {
            assert!(dialer.proxy_for(host, 443).is_some(), "{host}");
        }
        for host in ["two.test", "a.two.test", "fd00::2"] {
            assert!(dialer.proxy_for(host, 80).is_none(), "{host}");
        }
        assert!(Dialer::through("https://proxy", "").is_err());
    }

    #[tokio::test]
    async fn a_proxy_is_asked_to_connect_and_its_refusal_is_told() {
        // "u:p@" in base64.
        const AUTHORIZATION: &str = "Proxy-Authorization: Basic dTpwQA==";
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
                assert!(head.contains(AUTHORIZATION), "{head}");
                stream.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        let dialer =
            Dialer::through(&format!("http://u:p%40@127.0.0.1:{port}"), "").expect("a proxy");
        let mut stream = dialer.dial("far.test", 6443).await.expect("connected");
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.expect("five bytes");
        assert_eq!(&hello, b"hello");
        let refused = dialer
            .dial("far.test", 6443)
            .await
            .expect_err("refused")
            .to_string();
        let told = "407 Who are you; it does not know this user and password";
        assert!(refused.contains(told), "{refused}");
        let nowhere = Dialer::through("http://127.0.0.1:1", "").expect("a proxy");
        let error = nowhere
            .dial("far.test", 6443)
            .await
            .expect_err("nothing listens");
        assert!(
            error
                .to_string()
                .starts_with("the proxy 127.0.0.1:1 is not reached"),
            "{error}"
        );
    }
}
