//! Which protocol an upgrade leads to: pure, from the request's headers to the response's.

use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
};
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::error::{Error, Result};

const STREAM_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_STREAM_PROTOCOL_VERSIONS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY_31: &str = "SPDY/3.1";
/// Port-forward's SPDY within WebSocket messages.
pub const TUNNELLED_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD: &str = "portforward.k8s.io";

/// How channel data stands in WebSocket messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary messages as they are.
    Binary,
    /// Text messages in base64, for browsers of old.
    Base64,
}

/// What the versions of the remote command protocol differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoteCommandVersion {
    /// Without resizing (over SPDY) and with a plain text in the error channel.
    V1,
    V2,
    /// Resizing.
    V3,
    /// The error channel carries a JSON status.
    V4,
    /// A channel can be closed alone.
    V5,
}

/// What an upgraded connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteCommandProtocol {
    WebSocket(RemoteCommandVersion, Encoding),
    Spdy(RemoteCommandVersion),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortForwardProtocol {
    Spdy,
    /// SPDY frames in binary WebSocket messages.
    SpdyInWebSocket,
    /// Two channels a port, named in the request.
    WebSocket(Encoding),
}

/// A request that is not upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
    /// What would have been taken; empty unless no version of SPDY's streams fitted.
    accepted_versions: Vec<&'static str>,
}

impl Refusal {
    /// Headers of the answer.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in &self.accepted_versions {
            headers.append(
                ACCEPTED_STREAM_PROTOCOL_VERSIONS,
                HeaderValue::from_static(name),
            );
        }
        headers
    }
}

/// The response that upgrades a connection and what is spoken on it then.
#[derive(Debug)]
pub struct Upgrade<P> {
    pub protocol: P,
    /// `101 Switching Protocols` without a body.
    pub response: Response<()>,
}

const REMOTE_COMMAND_WEB_SOCKET: &[(&str, RemoteCommandProtocol)] = {
    use Encoding::{Base64, Binary};
    use RemoteCommandProtocol::WebSocket;
    use RemoteCommandVersion::{V1, V4, V5};
    &[
        ("", WebSocket(V1, Binary)),
        ("channel.k8s.io", WebSocket(V1, Binary)),
        ("base64.channel.k8s.io", WebSocket(V1, Base64)),
        ("v4.channel.k8s.io", WebSocket(V4, Binary)),
        ("v4.base64.channel.k8s.io", WebSocket(V4, Base64)),
        ("v5.channel.k8s.io", WebSocket(V5, Binary)),
    ]
};
const REMOTE_COMMAND_SPDY: &[(&str, RemoteCommandProtocol)] = {
    use RemoteCommandProtocol::Spdy;
    use RemoteCommandVersion::{V1, V2, V3, V4};
    &[
        ("v4.channel.k8s.io", Spdy(V4)),
        ("v3.channel.k8s.io", Spdy(V3)),
        ("v2.channel.k8s.io", Spdy(V2)),
        ("channel.k8s.io", Spdy(V1)),
    ]
};
const PORT_FORWARD_WEB_SOCKET: &[(&str, PortForwardProtocol)] = {
    use Encoding::{Base64, Binary};
    use PortForwardProtocol::{SpdyInWebSocket, WebSocket};
    &[
        ("", WebSocket(Binary)),
        (TUNNELLED_PORT_FORWARD, SpdyInWebSocket),
        ("v4.channel.k8s.io", WebSocket(Binary)),
        ("v4.base64.channel.k8s.io", WebSocket(Base64)),
    ]
};
const PORT_FORWARD_SPDY: &[(&str, PortForwardProtocol)] =
    &[(PORT_FORWARD, PortForwardProtocol::Spdy)];
const OUTPUT_WEB_SOCKET: &[(&str, Encoding)] = &[
    ("", Encoding::Binary),
    ("binary.k8s.io", Encoding::Binary),
    ("base64.binary.k8s.io", Encoding::Base64),
];

/// Whether a request asks for WebSocket.
pub fn is_web_socket(request: &HeaderMap) -> bool {
    wants_upgrade(request) && header(request, &UPGRADE).eq_ignore_ascii_case("websocket")
}

/// Whether a request asks for an upgrade of any kind.
pub fn wants_upgrade(request: &HeaderMap) -> bool {
    values(request, &CONNECTION)
        .iter()
        .any(|value| value.eq_ignore_ascii_case("upgrade"))
}

/// Answers an exec or attach request.
pub fn remote_command(request: &HeaderMap) -> Result<Upgrade<RemoteCommandProtocol>, Refusal> {
    if is_web_socket(request) {
        web_socket(request, REMOTE_COMMAND_WEB_SOCKET)
    } else {
        spdy(
            request,
            REMOTE_COMMAND_SPDY,
            RemoteCommandProtocol::Spdy(RemoteCommandVersion::V1),
        )
    }
}

/// Answers a port-forward request.
pub fn port_forward(request: &HeaderMap) -> Result<Upgrade<PortForwardProtocol>, Refusal> {
    if is_web_socket(request) {
        web_socket(request, PORT_FORWARD_WEB_SOCKET)
    } else {
        spdy(request, PORT_FORWARD_SPDY, PortForwardProtocol::Spdy)
    }
}

/// Answers a request for output only, such as logs over WebSocket.
pub fn output(request: &HeaderMap) -> Result<Upgrade<Encoding>, Refusal> {
    web_socket(request, OUTPUT_WEB_SOCKET)
}

fn web_socket<P: Copy>(
    request: &HeaderMap,
    supported: &[(&'static str, P)],
) -> Result<Upgrade<P>, Refusal> {
    let key = request
        .get(SEC_WEBSOCKET_KEY)
        .filter(|_| is_web_socket(request));
    let Some(key) = key.filter(|_| header(request, &SEC_WEBSOCKET_VERSION) == "13") else {
        return Err(refusal(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        ));
    };
    let offered = values(request, &SEC_WEBSOCKET_PROTOCOL);
    let offered_or_none = if offered.is_empty() {
        vec![String::new()]
    } else {
        offered
    };
    let Some((name, protocol)) = first_supported(&offered_or_none, supported) else {
        let names: Vec<&str> = supported.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "requested protocol(s) are not supported: {offered_or_none:?}; supports {names:?}"
        );
        return Err(refusal(StatusCode::FORBIDDEN, &message));
    };
    let mut response = switching("websocket");
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .expect("base64 is a header value");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !name.is_empty() {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(Upgrade { protocol, response })
}

fn spdy<P: Copy>(
    request: &HeaderMap,
    supported: &[(&'static str, P)],
    unnamed: P,
) -> Result<Upgrade<P>, Refusal> {
    if !wants_upgrade(request) || !header(request, &UPGRADE).eq_ignore_ascii_case(SPDY_31) {
        return Err(refusal(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        ));
    }
    let offered = values(request, &STREAM_PROTOCOL_VERSION);
    let mut response = switching(SPDY_31);
    // The first clients of Kubernetes named no version.
    if offered.is_empty() {
        return Ok(Upgrade {
            protocol: unnamed,
            response,
        });
    }
    let Some((name, protocol)) = first_supported(&offered, supported) else {
        let names: Vec<&str> = supported.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            names.join(" ")
        );
        return Err(Refusal {
            accepted_versions: names,
            ..refusal(StatusCode::FORBIDDEN, &message)
        });
    };
    response
        .headers_mut()
        .insert(STREAM_PROTOCOL_VERSION, HeaderValue::from_static(name));
    Ok(Upgrade { protocol, response })
}

/// The client's order decides.
fn first_supported<P: Copy>(
    offered: &[String],
    supported: &[(&'static str, P)],
) -> Option<(&'static str, P)> {
    offered
        .iter()
        .find_map(|name| supported.iter().find(|(known, _)| known == name).copied())
}

fn switching(protocol: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn refusal(status: StatusCode, message: &str) -> Refusal {
    Refusal {
        status,
        message: message.to_owned(),
        accepted_versions: Vec::new(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .trim()
}

/// All values of a header that may be repeated or separated by commas.
fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .collect()
}

/// A client's request for an upgrade: the headers to send, and what the answer must prove.
#[derive(Debug)]
pub struct UpgradeRequest {
    pub headers: HeaderMap,
    web_socket_key: Option<String>,
}

impl UpgradeRequest {
    /// Asks for WebSocket with one of these subprotocols, preferred first.
    pub fn web_socket(subprotocols: &[&'static str]) -> Self {
        let key = generate_key();
        let mut headers = upgrade_headers("websocket");
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_str(&key).expect("base64 is a header value"),
        );
        for subprotocol in subprotocols {
            headers.append(
                SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(subprotocol),
            );
        }
        Self {
            headers,
            web_socket_key: Some(key),
        }
    }

    /// Asks for SPDY with one of these versions, preferred first.
    pub fn spdy(versions: &[&'static str]) -> Self {
        let mut headers = upgrade_headers(SPDY_31);
        for version in versions {
            headers.append(STREAM_PROTOCOL_VERSION, HeaderValue::from_static(version));
        }
        Self {
            headers,
            web_socket_key: None,
        }
    }

    /// The protocol that the server chose; empty when it named none.
    pub fn verify<B>(&self, response: &Response<B>) -> Result<String> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::NotUpgraded(format!("status {}", response.status())));
        }
        let headers = response.headers();
        let Some(key) = &self.web_socket_key else {
            return Ok(header(headers, &STREAM_PROTOCOL_VERSION).to_owned());
        };
        if header(headers, &SEC_WEBSOCKET_ACCEPT) != derive_accept_key(key.as_bytes()) {
            return Err(Error::NotUpgraded(String::from(
                "it answers another WebSocket request",
            )));
        }
        Ok(header(headers, &SEC_WEBSOCKET_PROTOCOL).to_owned())
    }
}

fn upgrade_headers(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(upgrade: &str, header: &str, protocols: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_str(upgrade).unwrap());
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        let name = HeaderName::from_bytes(header.as_bytes()).unwrap();
        for protocol in protocols {
            headers.append(name.clone(), HeaderValue::from_str(protocol).unwrap());
        }
        headers
    }

    fn web(protocols: &[&str]) -> HeaderMap {
        request("WebSocket", "sec-websocket-protocol", protocols)
    }

    #[test]
    fn the_clients_first_supported_protocol_is_taken() {
        use Encoding::Binary;
        use RemoteCommandVersion::{V1, V4, V5};
        let chosen = |protocols: &[&str]| remote_command(&web(protocols)).unwrap().protocol;
        assert_eq!(
            chosen(&["v5.channel.k8s.io, v4.channel.k8s.io"]),
            RemoteCommandProtocol::WebSocket(V5, Binary)
        );
        assert_eq!(
            chosen(&["odd", "v4.channel.k8s.io"]),
            RemoteCommandProtocol::WebSocket(V4, Binary)
        );
        assert_eq!(chosen(&[]), RemoteCommandProtocol::WebSocket(V1, Binary));
        let spdy = request(
            "SPDY/3.1",
            "x-stream-protocol-version",
            &["v4.channel.k8s.io", "channel.k8s.io"],
        );
        let upgrade = remote_command(&spdy).unwrap();
        assert_eq!(upgrade.protocol, RemoteCommandProtocol::Spdy(V4));
        assert_eq!(
            upgrade.response.headers()["x-stream-protocol-version"],
            "v4.channel.k8s.io"
        );
        let tunnel = port_forward(&web(&[TUNNELLED_PORT_FORWARD])).unwrap();
        assert_eq!(tunnel.protocol, PortForwardProtocol::SpdyInWebSocket);
        assert_eq!(
            output(&web(&["base64.binary.k8s.io"])).unwrap().protocol,
            Encoding::Base64
        );
    }

    #[test]
    fn the_answer_is_that_of_rfc_6455() {
        let upgrade = remote_command(&web(&["v5.channel.k8s.io"])).unwrap();
        assert_eq!(upgrade.response.status(), 101);
        assert_eq!(
            upgrade.response.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(
            upgrade.response.headers()["sec-websocket-protocol"],
            "v5.channel.k8s.io"
        );
        let asked = UpgradeRequest::web_socket(&["v5.channel.k8s.io"]);
        let answer = remote_command(&asked.headers).unwrap().response;
        assert_eq!(asked.verify(&answer).unwrap(), "v5.channel.k8s.io");
        assert!(UpgradeRequest::web_socket(&[]).verify(&answer).is_err());
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        assert_eq!(
            remote_command(&web(&["v9.channel.k8s.io"]))
                .unwrap_err()
                .status,
            StatusCode::FORBIDDEN
        );
        assert_eq!(
            remote_command(&HeaderMap::new()).unwrap_err().status,
            StatusCode::BAD_REQUEST
        );
        let refused =
            remote_command(&request("SPDY/3.1", "x-stream-protocol-version", &["v9"])).unwrap_err();
        assert_eq!(
            refused.message,
            "unable to upgrade: unable to negotiate protocol: client supports [v9], server accepts [v4.channel.k8s.io \
             v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io]"
        );
        assert_eq!(
            refused
                .headers()
                .get_all("x-accepted-stream-protocol-versions")
                .iter()
                .count(),
            4
        );
    }
}
