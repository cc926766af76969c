//! The plain pages beside the API: `/health`, `/version` and `/metrics`, with etcd's bodies and names.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tonic::body::Body;

use crate::core::{Core, VERSION};

const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) async fn respond<B>(core: &Core, request: &Request<B>) -> Response<Body> {
    let path = request.uri().path();
    if !matches!(
        path,
        "/health" | "/livez" | "/readyz" | "/version" | "/metrics"
    ) {
        return page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into());
    }
    if request.method() != Method::GET {
        return page(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "Method Not Allowed\n".into(),
        );
    }
    match path {
        "/version" => page(
            StatusCode::OK,
            JSON,
            format!(
                r#"{{"etcdserver":"{VERSION}","etcdcluster":"{VERSION}","storage":"{VERSION}"}}"#
            ),
        ),
        "/metrics" => metrics(core).await,
        _ => health(core, path).await,
    }
}

/// Healthy is who can read the store.
async fn health(core: &Core, path: &str) -> Response<Body> {
    let read = core
        .kv
        .range(kv::RangeRequest::newest(kv::KeyRange::key("health")))
        .await;
    match (path, read) {
        ("/health", Ok(_)) => page(
            StatusCode::OK,
            JSON,
            r#"{"health":"true","reason":""}"#.into(),
        ),
        ("/health", Err(error)) => page(
            StatusCode::SERVICE_UNAVAILABLE,
            JSON,
            // The texts of these errors have no quotes in them, but those of the disk may.
            format!(r#"{{"health":"false","reason":{:?}}}"#, error.to_string()),
        ),
        (_, Ok(_)) => page(StatusCode::OK, TEXT, "ok\n".into()),
        (_, Err(error)) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

async fn metrics(core: &Core) -> Response<Body> {
    let status = match core.kv.status().await {
        Ok(status) => status,
        Err(error) => return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    };
    let gauges = [
        ("etcd_server_has_leader", 1),
        ("etcd_server_is_leader", 1),
        ("etcd_mvcc_db_total_size_in_bytes", status.size_bytes),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            status.size_in_use_bytes,
        ),
        (
            "etcd_debugging_mvcc_current_revision",
            status.revision.unsigned_abs(),
        ),
        (
            "etcd_debugging_mvcc_compact_revision",
            status.compact_revision.unsigned_abs(),
        ),
        ("etcd_debugging_mvcc_keys_total", status.keys as u64),
    ];
    let text = gauges
        .iter()
        .map(|(name, value)| format!("# TYPE {name} gauge\n{name} {value}\n"))
        .collect();
    page(StatusCode::OK, METRICS, text)
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
