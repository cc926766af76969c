//! Paths that are about no object: health, version, discovery, metrics, keys.

mod discovery;
mod health;
mod openapi;

use std::sync::Arc;

use apimachinery::ApiError;

use crate::answer::{Answer, method_not_allowed};
use crate::filters::{Authorized, Incoming};
use crate::respond::{json_response, response, text_response};
use crate::state::State;

/// What is said of a path that means nothing.
pub(crate) fn not_found() -> Answer {
    Answer::Written(text_response(404, "404 page not found\n"))
}

pub(crate) async fn answer(
    state: &Arc<State>,
    _authorized: &Authorized,
    request: Incoming,
) -> Result<Answer, ApiError> {
    let path = request.info.path.trim_end_matches('/');
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let is_read = matches!(request.info.method.as_str(), "GET" | "HEAD");
    match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Ok(health::answer(state, &request, &segments)),
        ["version"] if is_read => {
            let accept = request.header("accept");
            if ["json", "*/*"].iter().any(|part| accept.contains(part)) || accept.is_empty() {
                Ok(Answer::Written(json_response(200, version().to_string())))
            } else {
                Err(crate::respond::not_routed(&["application/json"]))
            }
        }
        ["metrics"] => {
            let text = state.metrics.text(state.store.current_revision()).await;
            let body = crate::body::ResponseBody::whole(text);
            Ok(Answer::Written(response(
                200,
                "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                body,
            )))
        }
        ["api" | "apis", ..] if is_read => discovery::answer(state, &request, &segments),
        ["api" | "apis", ..] => Err(method_not_allowed()),
        ["openapi", ..] if is_read => openapi::answer(state, &request, &segments).await,
        [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"] if is_read => {
            Ok(issuer(state, segments[0] == "openid"))
        }
        [] | [""] => Ok(Answer::Written(json_response(
            200,
            root_paths(state).to_string(),
        ))),
        _ => Ok(not_found()),
    }
}

/// The version that is told.
fn version() -> serde_json::Value {
    use apimachinery::version::{COMPATIBILITY_MINOR_MIN, GIT, MAJOR, MINOR};
    serde_json::json!({
        "major": MAJOR, "minor": MINOR, "emulationMajor": MAJOR, "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR, "minCompatibilityMinor": COMPATIBILITY_MINOR_MIN,
        "gitVersion": GIT, "gitCommit": "unknown", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

/// What verifies service account tokens elsewhere: the issuer's document, or its keys.
fn issuer(state: &State, keys: bool) -> Answer {
    let address = state.advertised_address();
    let tokens = state.config.tokens.as_ref();
    let Some((key_set, discovery)) = tokens.and_then(|tokens| tokens.issuer_documents(&address))
    else {
        return not_found();
    };
    let (document, content_type) = if keys {
        (key_set, "application/jwk-set+json")
    } else {
        (discovery, "application/json")
    };
    let mut answer = response(
        200,
        content_type,
        crate::body::ResponseBody::whole(document.to_string()),
    );
    let lasting = http::HeaderValue::from_static("public, max-age=3600");
    answer
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, lasting);
    Answer::Written(answer)
}

/// Where a visitor can go from `/`.
fn root_paths(state: &State) -> serde_json::Value {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis", "/apis/"]
        .map(ToOwned::to_owned)
        .to_vec();
    for (group, versions) in state
        .catalog
        .load()
        .groups()
        .iter()
        .filter(|(group, _)| !group.is_empty())
    {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            versions
                .iter()
                .map(|version| format!("/apis/{group}/{version}")),
        );
    }
    let others = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    paths.extend(others.map(ToOwned::to_owned));
    paths.sort_unstable();
    serde_json::json!({"paths": paths})
}
