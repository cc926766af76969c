//! What hangs below an object, one file each.

pub(crate) mod binding;
mod conditions;
mod connect;
mod eviction;
mod log_messages;
mod scale;
pub(crate) mod special;
mod stream;
mod token;

use std::sync::Arc;

use apimachinery::ApiError;
use registry::Subresource;

use crate::answer::{Answer, method_not_allowed};
use crate::call::{Call, body_of};
use crate::catalog::{Origin, Served};
use crate::filters::{Authorized, Incoming};
use crate::modify::Part;
use crate::request_info::{ResourcePath, Verb};
use crate::state::State;
use crate::verbs;

pub(crate) async fn dispatch(
    state: &Arc<State>,
    authorized: &Authorized,
    served: &Arc<Served>,
    mut request: Incoming,
) -> Result<Answer, ApiError> {
    let path = authorized.resource().expect("subresources are resources");
    let found = served
        .description
        .subresources
        .iter()
        .find(|subresource| subresource.name() == path.subresource);
    let Some(&subresource) = found else {
        return Err(unknown(served, path));
    };
    if is_stream(subresource) {
        return stream_or_refuse(state, authorized, served, subresource, request).await;
    }
    if !subresource.verbs().contains(&path.verb().name())
        || request.info.method == http::Method::HEAD
    {
        return Err(method_not_allowed());
    }
    crate::respond::Wish::of(&request).agree(Some(served), path.verb())?;
    let body = if path.verb().is_read() {
        bytes::Bytes::new()
    } else {
        body_of(&mut request).await?
    };
    let call = Call {
        state,
        authorized,
        path,
        served,
        query: &request.info.query,
        headers: &request.headers,
        warnings: &request.warnings,
        body,
    };
    match (subresource, path.verb()) {
        (Subresource::Scale, _) => scale::answer(&call).await,
        (Subresource::Binding, _) => binding::answer(&call).await,
        (Subresource::Eviction, _) => eviction::answer(&call).await,
        (Subresource::Token, _) => token::answer(&call).await,
        (_, Verb::Get) => verbs::get(&call).await,
        (_, Verb::Update) => verbs::update::update_part(&call, part(subresource)).await,
        (_, Verb::Patch) => verbs::patch::patch_part(&call, part(subresource)).await,
        _ => Err(method_not_allowed()),
    }
}

fn part(subresource: Subresource) -> Part {
    match subresource {
        Subresource::Status => Part::Status,
        special => Part::Special(special),
    }
}

/// Upstream looks for the object of a custom kind before it finds that this part of it is not served.
fn unknown(served: &Served, path: &ResourcePath) -> ApiError {
    match (served.origin, path.subresource.as_str()) {
        (Origin::Custom, "status" | "scale") => {
            ApiError::not_found(&served.description.group_resource(), &path.name)
        }
        _ => ApiError::no_such_path(),
    }
}

fn is_stream(subresource: Subresource) -> bool {
    matches!(
        subresource,
        Subresource::Attach
            | Subresource::Exec
            | Subresource::Log
            | Subresource::PortForward
            | Subresource::Proxy
    )
}

async fn stream_or_refuse(
    state: &Arc<State>,
    authorized: &Authorized,
    served: &Arc<Served>,
    subresource: Subresource,
    request: Incoming,
) -> Result<Answer, ApiError> {
    let path = authorized.resource().expect("subresources are resources");
    let any_method = subresource == Subresource::Proxy;
    if !any_method && !subresource.verbs().contains(&path.verb().name()) {
        return Err(method_not_allowed());
    }
    stream::answer(state, authorized, served, subresource, request).await
}
