//! Passing a request on to somebody else, and the answer back, upgrades included.

use std::sync::Arc;

use apimachinery::ApiError;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE,
};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::{RequestBody, ResponseBody};
use crate::filters::{Incoming, Response};
use crate::kubelet::{ByteStream, DialError, KubeletAddress};
use crate::proxied_links::{Links, Page};
use crate::respond::text_response;
use crate::state::State;

/// Bytes on their way through one direction of an upgraded connection.
const COPY_BUFFER_BYTES: usize = 16 * 1024;

/// Headers that are about one connection and are not passed on.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Who the client is, is between it and us.
const PRIVATE: &[&str] = &[
    "authorization",
    "impersonate-user",
    "impersonate-group",
    "impersonate-uid",
];

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Kubelet {
        address: KubeletAddress,
        path: String,
    },
    Address {
        node: Option<String>,
        host: String,
        port: u16,
        tls: bool,
        path: String,
    },
    /// Nothing is there yet: an empty answer.
    Nothing,
}

/// Passes the request on and returns the answer, whose body streams.
pub(crate) async fn forward(
    state: &Arc<State>,
    target: Target,
    mut request: Incoming,
) -> Result<Response, ApiError> {
    let Some((path, host)) = destination(&target, &request) else {
        let mut nothing = text_response(204, "");
        nothing.headers_mut().remove(http::header::CONTENT_TYPE);
        return Ok(nothing);
    };
    let stream = dial(state, &target).await.map_err(|error| {
        ApiError::service_unavailable(format!("error trying to reach service: {error}"))
    })?;
    let upgrade = wants_upgrade(&request.headers)
        .then(|| request.extensions.remove::<OnUpgrade>())
        .flatten();
    let links = is_proxy(&request).then(|| links(&request, &path, &host));
    let outgoing = outgoing(&mut request, &path, &host, upgrade.is_some())?;
    let answer = exchange(stream, outgoing).await.map_err(|error| {
        ApiError::service_unavailable(format!("error trying to reach service: {error}"))
    })?;
    if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return switched(answer, upgrade);
    }
    Ok(passed_back(answer, links))
}

fn is_proxy(request: &Incoming) -> bool {
    request
        .info
        .resource()
        .is_some_and(|info| info.subresource == "proxy")
}

/// What links on the page behind `path` have to become.
fn links(request: &Incoming, path: &str, host: &str) -> Links {
    let behind = path.split('?').next().unwrap_or_default();
    let prefix = request
        .info
        .path
        .strip_suffix(behind)
        .unwrap_or(&request.info.path)
        .to_owned();
    let asked = request
        .headers
        .get(HOST)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    Links {
        prefix,
        hosts: asked.into_iter().chain([host.to_owned()]).collect(),
    }
}

fn destination(target: &Target, request: &Incoming) -> Option<(String, String)> {
    match target {
        Target::Kubelet { address, path } => {
            let path = if path.contains('?') {
                path.clone()
            } else {
                with_query(path, request)
            };
            Some((path, format!("{}:{}", address.host, address.port)))
        }
        Target::Address {
            host, port, path, ..
        } => Some((with_query(path, request), format!("{host}:{port}"))),
        Target::Nothing => None,
    }
}

/// What is proxied keeps its query; a stream's own was translated already.
fn with_query(path: &str, request: &Incoming) -> String {
    if is_proxy(request) && !request.raw_query.is_empty() {
        format!("{path}?{}", request.raw_query)
    } else {
        path.to_owned()
    }
}

async fn dial(state: &State, target: &Target) -> Result<Box<dyn ByteStream>, DialError> {
    let Some(dialer) = &state.config.kubelets else {
        return Err(DialError("this server reaches no nodes".to_owned()));
    };
    match target {
        Target::Kubelet { address, .. } => dialer.dial_kubelet(address).await,
        Target::Address {
            node,
            host,
            port,
            tls,
            ..
        } => {
            let stream = dialer.dial(node.as_deref(), host, *port).await?;
            if *tls {
                crate::unverified_tls::connect(stream, host).await
            } else {
                Ok(stream)
            }
        }
        Target::Nothing => Err(DialError("there is nothing to reach".to_owned())),
    }
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers
        .get(CONNECTION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    headers.contains_key(UPGRADE) && connection.to_ascii_lowercase().contains("upgrade")
}

type OutgoingBody = BoxBody<Bytes, hyper::Error>;

fn outgoing(
    request: &mut Incoming,
    path: &str,
    host: &str,
    upgrades: bool,
) -> Result<http::Request<OutgoingBody>, ApiError> {
    let body = match std::mem::replace(&mut request.body, RequestBody::InProcess(Bytes::new())) {
        RequestBody::Network(body) => body.boxed(),
        RequestBody::InProcess(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
    };
    let mut outgoing = http::Request::builder()
        .method(request.info.method.clone())
        .uri(path)
        .body(body)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let headers = outgoing.headers_mut();
    for (name, value) in &request.headers {
        let is_dropped = HOP_BY_HOP.contains(&name.as_str())
            || PRIVATE.contains(&name.as_str())
            || name.as_str().starts_with("impersonate-extra-")
            || name == HOST;
        if !is_dropped {
            headers.append(name, value.clone());
        }
    }
    // The links of a page can only be found while it is not compressed.
    if headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kinds| kinds.contains("text/html"))
    {
        headers.remove(ACCEPT_ENCODING);
    }
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host);
    }
    if upgrades {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = request.headers.get(UPGRADE) {
            headers.insert(UPGRADE, protocol.clone());
        }
    }
    Ok(outgoing)
}

async fn exchange(
    stream: Box<dyn ByteStream>,
    request: http::Request<OutgoingBody>,
) -> Result<http::Response<hyper::body::Incoming>, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    env::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    sender.send_request(request).await
}

/// Both sides changed the protocol: from here on bytes are copied.
fn switched(
    answer: http::Response<hyper::body::Incoming>,
    client: Option<OnUpgrade>,
) -> Result<Response, ApiError> {
    let Some(client) = client else {
        return Err(ApiError::internal(
            "the backend changed the protocol without being asked",
        ));
    };
    let headers = answer.headers().clone();
    let mut response = Response::new(ResponseBody::whole(""));
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    env::spawn(async move {
        let (client, backend) = match tokio::try_join!(client, hyper::upgrade::on(answer)) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade failed"),
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        let copied = tokio::io::copy_bidirectional_with_sizes(
            &mut client,
            &mut backend,
            COPY_BUFFER_BYTES,
            COPY_BUFFER_BYTES,
        );
        if let Err(error) = copied.await {
            tracing::debug!(%error, "a stream ended");
        }
    });
    Ok(response)
}

/// The answer as the client gets it; with `links`, what it refers to stays behind the proxy.
fn passed_back(answer: http::Response<hyper::body::Incoming>, links: Option<Links>) -> Response {
    let (mut head, body) = answer.into_parts();
    let mut page = None;
    if let Some(links) = links {
        if let Some(location) = head.headers.get_mut(LOCATION) {
            let rewritten = location.to_str().ok().and_then(|text| links.rewrite(text));
            if let Some(rewritten) = rewritten.and_then(|text| HeaderValue::from_str(&text).ok()) {
                *location = rewritten;
            }
        } else if is_plain_html(&head.headers) {
            head.headers.remove(CONTENT_LENGTH);
            page = Some(Page::new(links));
        }
    }
    let mut response = Response::new(ResponseBody::stream(pieces(body, page)));
    *response.status_mut() = head.status;
    for (name, value) in &head.headers {
        if !HOP_BY_HOP.contains(&name.as_str()) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn is_plain_html(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim() == "text/html"
        && !headers.contains_key(CONTENT_ENCODING)
}

/// The body as it comes, through `page` if there is one.
fn pieces(body: hyper::body::Incoming, page: Option<Page>) -> impl Stream<Item = Bytes> {
    futures_util::stream::unfold(Some((body, page)), |state| async move {
        let (mut body, mut page) = state?;
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                let data = page
                    .as_mut()
                    .map_or(data.clone(), |page| page.push(&data).into());
                return Some((data, Some((body, page))));
            }
        }
        let rest = page
            .map(|mut page| page.finish())
            .filter(|rest| !rest.is_empty())?;
        Some((rest.into(), None))
    })
}

/// A proxied root without its slash is sent to the one with it.
pub(crate) fn to_trailing_slash(request: &Incoming) -> Option<Response> {
    if !matches!(request.info.method.as_str(), "GET" | "HEAD") || wants_upgrade(&request.headers) {
        return None;
    }
    let query = if request.raw_query.is_empty() {
        String::new()
    } else {
        format!("?{}", request.raw_query)
    };
    let mut response = text_response(301, "");
    let location = HeaderValue::from_str(&format!("{}/{query}", request.info.path)).ok()?;
    response.headers_mut().insert(LOCATION, location);
    response
        .headers_mut()
        .remove(HeaderName::from_static("x-content-type-options"));
    Some(response)
}
