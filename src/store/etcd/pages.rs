//! The plain pages beside the API: `/health`, `/version` and `/metrics`, with etcd's bodies and names.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tonic::body::Body;

use crate::core::{Core, VERSION};
use crate::{alarms, metrics};

const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) async fn respond<B>(core: &Core, request: &Request<B>) -> Response<Body> {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let root = path.split('/').nth(1).unwrap_or_default();
    let is_known =
        matches!(path, "/health" | "/version" | "/metrics") || matches!(root, "livez" | "readyz");
    if is_known && request.method() != Method::GET {
        return page(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "Method Not Allowed\n".into(),
        );
    }
    let answer = match path {
        "/version" => Some(page(
            StatusCode::OK,
            JSON,
            format!(
                r#"{{"etcdserver":"{VERSION}","etcdcluster":"{VERSION}","storage":"{VERSION}"}}"#
            ),
        )),
        "/metrics" => Some(metrics(core).await),
        "/health" => Some(health(core, query).await),
        _ => checks(core, path, query).await,
    };
    answer.unwrap_or_else(|| page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into()))
}

/// Healthy is who can read the store and has no alarm that the caller does not exclude.
async fn health(core: &Core, query: &str) -> Response<Body> {
    let excluded = excluded(query);
    let alarm = core
        .kv
        .alarms()
        .into_iter()
        .map(alarms::name)
        .find(|name| !excluded.contains(name));
    let reason = match (alarm, read(core).await) {
        (Some(alarm), _) => format!("ALARM {alarm}"),
        (None, Err(error)) => format!("RANGE ERROR:{error}"),
        (None, Ok(_)) => {
            let body = r#"{"health":"true","reason":""}"#;
            return page(StatusCode::OK, JSON, body.into());
        }
    };
    // The texts of these errors have no quotes in them, but those of the disk may.
    let body = format!("{{\"health\":\"false\",\"reason\":{reason:?}}}\n");
    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, body)
}

/// The checks of `/livez` and `/readyz`, each of which has a page of its own.
async fn checks(core: &Core, path: &str, query: &str) -> Option<Response<Body>> {
    let (root, one) = match path[1..].split_once('/') {
        Some((root, one)) => (root, Some(one)),
        None => (&path[1..], None),
    };
    let names: &[&str] = match root {
        "livez" => &["serializable_read"],
        "readyz" => &[
            "data_corruption",
            "serializable_read",
            "linearizable_read",
            "non_learner",
        ],
        _ => return None,
    };
    if one.is_some_and(|one| !names.contains(&one)) {
        return None;
    }
    let excluded = excluded(query);
    let (mut lines, mut fails) = (String::new(), false);
    for name in names {
        if one.is_some_and(|one| one != *name) || one.is_none() && excluded.contains(name) {
            continue;
        }
        lines += &match fault(core, name).await {
            Some(fault) => {
                fails = true;
                format!("[-]{name} failed: {fault}\n")
            }
            None => format!("[+]{name} ok\n"),
        };
    }
    let is_verbose = query.split('&').any(|part| part.starts_with("verbose"));
    Some(match (fails, is_verbose) {
        (true, _) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines + "\n"),
        (false, true) => page(StatusCode::OK, TEXT, lines + "ok\n"),
        (false, false) => page(StatusCode::OK, TEXT, "ok\n".into()),
    })
}

async fn fault(core: &Core, check: &str) -> Option<String> {
    match check {
        "data_corruption" => core
            .kv
            .alarms()
            .contains(&kv::Alarm::Corrupt)
            .then(|| "alarm activated: CORRUPT".to_owned()),
        // There is one member, which learns from nobody.
        "non_learner" => None,
        _ => read(core).await.err().map(|error| error.to_string()),
    }
}

async fn read(core: &Core) -> kv::Result<kv::RangeResponse> {
    let request = kv::RangeRequest::newest(kv::KeyRange::key("health"));
    core.kv.range(request).await
}

fn excluded(query: &str) -> Vec<&str> {
    query
        .split('&')
        .filter_map(|part| part.strip_prefix("exclude="))
        .collect()
}

async fn metrics(core: &Core) -> Response<Body> {
    match core.kv.status().await {
        Ok(status) => page(StatusCode::OK, METRICS, metrics::text(core, &status)),
        Err(error) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n")),
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
