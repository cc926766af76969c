//! What every request passes before a verb sees it, in one fixed order.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, GroupResource};
use auth::{Attributes, Credentials, Decision, User};
use futures_util::FutureExt as _;
use http::HeaderMap;

use crate::answer::{Answer, Warnings};
use crate::body::RequestBody;
use crate::call::Call;
use crate::config::AnonymousAccess;
use crate::impersonation;
use crate::metrics::Series;
use crate::query::Query;
use crate::request_info::{About, RequestInfo, ResourcePath, Verb};
use crate::state::State;
use crate::{dispatch, respond};

/// A request that is no watch and no stream is answered within this time.
const REQUEST_TIME_MAX: Duration = Duration::from_mins(1);

pub(crate) type Response = http::Response<crate::body::ResponseBody>;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Over the network, with the certificates of the connection.
    Connection { peer_certificates: Arc<[Vec<u8>]> },
    /// A component of this process, which is trusted to be who it says.
    InProcess(Arc<User>),
}

/// One request as it came in.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) info: RequestInfo,
    /// The query as it stands in the URL.
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) extensions: http::Extensions,
    pub(crate) body: RequestBody,
    pub(crate) warnings: Warnings,
}

impl Incoming {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// Proof that the authorizer allowed a request. Only this module can make one.
#[derive(Debug)]
pub(crate) struct Authorized {
    user: User,
    resource: Option<ResourcePath>,
}

impl Authorized {
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// What was allowed; `None` for paths that are about no resource.
    pub(crate) fn resource(&self) -> Option<&ResourcePath> {
        self.resource.as_ref()
    }
}

/// Answers one request, whatever happens.
pub(crate) async fn respond_to(state: &Arc<State>, request: Incoming, caller: Caller) -> Response {
    let started = state.clock().monotonic();
    let info = request.info.clone();
    let warnings = request.warnings.clone();
    let wish = respond::Wish::of(&request);
    let answer = answer(state, request, caller).await;
    let response = respond::encode(state, &info, &wish, answer, &warnings.texts());
    let took = state.clock().monotonic().saturating_sub(started);
    tracing::trace!(method = %info.method, path = info.path, code = response.status().as_u16(), ?took, "request");
    state
        .metrics
        .count(series(&info, response.status().as_u16()), took);
    response
}

/// The filters, outermost first.
pub(crate) async fn answer(
    state: &Arc<State>,
    request: Incoming,
    caller: Caller,
) -> Result<Answer, ApiError> {
    let guarded = AssertUnwindSafe(within_limits(state, request, caller))
        .catch_unwind()
        .await;
    guarded.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let what = what
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!(what, "a request panicked");
        Err(ApiError::internal(
            "this request caused a failure in the server",
        ))
    })
}

/// Limits how many requests are in flight, and for how long.
async fn within_limits(
    state: &Arc<State>,
    request: Incoming,
    caller: Caller,
) -> Result<Answer, ApiError> {
    if request.info.is_long_running() {
        return identified(state, request, caller).await;
    }
    let reads =
        request.info.method == http::Method::GET || request.info.method == http::Method::HEAD;
    let slots = if reads { &state.reads } else { &state.writes };
    // Our own components are few and must not starve while the network is busy.
    let _slot = match caller {
        Caller::InProcess(_) => None,
        Caller::Connection { .. } => Some(slots.try_acquire().map_err(|_full| {
            ApiError::too_many_requests("Too many requests, please try again later.", 1)
        })?),
    };
    match env::timeout(
        REQUEST_TIME_MAX,
        Box::pin(identified(state, request, caller)),
    )
    .await
    {
        Ok(answer) => answer,
        Err(_elapsed) => Err(ApiError::timeout(
            "request did not complete within the allotted timeout",
            0,
        )),
    }
}

/// Finds out who asks, and as whom.
async fn identified(
    state: &Arc<State>,
    request: Incoming,
    caller: Caller,
) -> Result<Answer, ApiError> {
    let user = match &caller {
        Caller::InProcess(user) => User::clone(user),
        Caller::Connection { peer_certificates } => {
            let credentials = Credentials {
                peer_certificates: peer_certificates.to_vec(),
                bearer_token: bearer_token(&request.headers),
            };
            match state.authenticator().authenticate(&credentials).await {
                Ok(Some(user)) => with_group(user, "system:authenticated"),
                // Who says nothing of himself is nobody, and may what the roles let nobody do.
                Ok(None)
                    if credentials.bearer_token.is_none()
                        && state.config.anonymous_access == AnonymousAccess::Allowed =>
                {
                    anonymous()
                }
                Ok(None) => return Err(ApiError::unauthorized()),
                Err(error) => {
                    tracing::debug!(%error, "credentials refused");
                    return Err(ApiError::unauthorized());
                }
            }
        }
    };
    let user = impersonation::impersonate(state, user, &request.headers).await?;
    let authorized = authorize(state, user, &request.info).await?;
    dispatch::dispatch(state, &authorized, request).await
}

/// The only door to an [`Authorized`].
async fn authorize(state: &State, user: User, info: &RequestInfo) -> Result<Authorized, ApiError> {
    let attributes = attributes(user, info);
    // Whoever the server knows may ask whether it lives.
    if is_health(info) {
        return Ok(Authorized {
            user: attributes.user,
            resource: None,
        });
    }
    match state.authorizer().authorize(&attributes).await {
        Decision::Allow { .. } => Ok(Authorized {
            user: attributes.user,
            resource: info.resource().cloned(),
        }),
        Decision::Deny { reason } | Decision::NoOpinion { reason } => {
            Err(forbidden(&attributes, &reason))
        }
    }
}

/// For what has to be allowed beside what the request's own verb says.
pub(crate) async fn authorize_as(call: &Call<'_>, verb: Verb) -> Result<(), ApiError> {
    if call.path.verb() == verb {
        return Ok(());
    }
    let attributes = Attributes {
        verb: verb.name().to_owned(),
        ..resource_attributes(call.user().clone(), call.path, call.query)
    };
    match call.state.authorizer().authorize(&attributes).await {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { reason } | Decision::NoOpinion { reason } => {
            let about = GroupResource::new(attributes.api_group, attributes.resource);
            Err(ApiError::forbidden(&about, &attributes.name, &reason))
        }
    }
}

fn attributes(user: User, info: &RequestInfo) -> Attributes {
    match &info.about {
        About::Path => Attributes {
            user,
            verb: info.method.as_str().to_ascii_lowercase(),
            path: Some(info.path.clone()),
            ..Attributes::default()
        },
        About::Resource(path) => resource_attributes(user, path, &info.query),
    }
}

fn resource_attributes(user: User, path: &ResourcePath, query: &Query) -> Attributes {
    let selector = |name: &str| query.get(name).unwrap_or_default().to_owned();
    Attributes {
        user,
        verb: path.verb().name().to_owned(),
        namespace: path.namespace.clone(),
        api_group: path.group.clone(),
        api_version: path.version.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone(),
        name: path.name.clone(),
        path: None,
        field_selector: selector("fieldSelector"),
        label_selector: selector("labelSelector"),
    }
}

/// Upstream's words for a refused request.
pub(crate) fn forbidden(attributes: &Attributes, reason: &str) -> ApiError {
    let user = &attributes.user.name;
    let because = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    if let Some(path) = &attributes.path {
        let why = format!(
            "User {user:?} cannot {} path {path:?}{because}",
            attributes.verb
        );
        return ApiError::forbidden(&GroupResource::new("", ""), "", &why);
    }
    let mut resource = attributes.resource.clone();
    if !attributes.subresource.is_empty() {
        resource = format!("{resource}/{}", attributes.subresource);
    }
    let place = match attributes.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {user:?} cannot {} resource {resource:?} in API group {:?} {place}{because}",
        attributes.verb, attributes.api_group
    );
    let about = GroupResource::new(attributes.api_group.clone(), attributes.resource.clone());
    ApiError::forbidden(&about, &attributes.name, &why)
}

/// What nobody needs a role for; the single checks below need one.
fn is_health(info: &RequestInfo) -> bool {
    matches!(info.path.as_str(), "/livez" | "/readyz" | "/healthz")
}

fn anonymous() -> User {
    User::named("system:anonymous", &["system:unauthenticated"])
}

fn with_group(mut user: User, group: &str) -> User {
    if !user.is_in(group) {
        user.groups.push(group.to_owned());
    }
    user
}

fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn series(info: &RequestInfo, code: u16) -> Series {
    let path = info.resource().cloned().unwrap_or_default();
    let verb = match info.resource() {
        Some(path) => metric_verb(path.verb().name()),
        None => "OTHER",
    };
    Series {
        verb,
        group: path.group,
        version: path.version,
        resource: path.resource,
        subresource: path.subresource,
        code,
    }
}

fn metric_verb(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    }
}
