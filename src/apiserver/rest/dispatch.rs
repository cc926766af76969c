//! From an allowed request to the verb that does it.

use std::sync::Arc;

use apimachinery::ApiError;

use crate::answer::{Answer, method_not_allowed};
use crate::call::{Call, body_of};
use crate::catalog::Served;
use crate::endpoints;
use crate::filters::{Authorized, Incoming};
use crate::request_info::{ResourcePath, Verb};
use crate::state::State;
use crate::subresources;
use crate::verbs;

pub(crate) async fn dispatch(
    state: &Arc<State>,
    authorized: &Authorized,
    request: Incoming,
) -> Result<Answer, ApiError> {
    let Some(path) = authorized.resource() else {
        return endpoints::answer(state, authorized, request).await;
    };
    let catalog = state.catalog.load_full();
    let Some(served) = catalog.find(&path.group, &path.version, &path.resource) else {
        return if catalog.has_group_version(&path.group, &path.version) {
            Err(ApiError::no_such_path())
        } else {
            Ok(endpoints::not_found())
        };
    };
    check_place(served, path)?;
    if let Some(warning) = crate::deprecations::warning(&served.description) {
        request.warnings.add(warning);
    }
    if !path.subresource.is_empty() {
        return subresources::dispatch(state, authorized, served, request).await;
    }
    check_method(served, path, &request)?;
    // What the client cannot read is refused before anything is done.
    crate::respond::Wish::of(&request).agree(Some(served), path.verb())?;
    run(state, authorized, served, request).await
}

/// Namespaced objects live in a namespace, others do not.
fn check_place(served: &Served, path: &ResourcePath) -> Result<(), ApiError> {
    let is_namespace_itself = served.description.plural == "namespaces" && path.group.is_empty();
    let fits = if served.description.is_namespaced() {
        !path.namespace.is_empty()
            || path.name.is_empty()
            || path.verb() == Verb::List
            || path.verb() == Verb::Watch
    } else {
        path.namespace.is_empty() || is_namespace_itself
    };
    if fits {
        Ok(())
    } else {
        Err(ApiError::no_such_path())
    }
}

fn check_method(served: &Served, path: &ResourcePath, request: &Incoming) -> Result<(), ApiError> {
    let verb = path.verb();
    if request.info.method == http::Method::HEAD {
        return Err(method_not_allowed());
    }
    let is_collection = request
        .info
        .path
        .trim_end_matches('/')
        .ends_with(&format!("/{}", path.resource))
        && !matches!(verb, Verb::Get | Verb::Update | Verb::Patch | Verb::Delete);
    let fits = match verb {
        Verb::Create => {
            path.name.is_empty()
                && (!served.description.is_namespaced() || !path.namespace.is_empty())
        }
        Verb::Update | Verb::Patch | Verb::Delete => !path.name.is_empty(),
        Verb::DeleteCollection => {
            is_collection && (!served.description.is_namespaced() || !path.namespace.is_empty())
        }
        Verb::Get | Verb::List | Verb::Watch => true,
        Verb::None => false,
    };
    if fits && served.description.verbs.contains(verb.name()) {
        Ok(())
    } else {
        Err(method_not_allowed())
    }
}

async fn run(
    state: &Arc<State>,
    authorized: &Authorized,
    served: &Arc<Served>,
    mut request: Incoming,
) -> Result<Answer, ApiError> {
    let path = authorized.resource().expect("the caller has found it");
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
    match path.verb() {
        Verb::Get => verbs::get(&call).await,
        Verb::List => verbs::list(&call).await,
        Verb::Watch => verbs::watch(&call).await,
        Verb::Create => verbs::create(&call).await,
        Verb::Update => verbs::update(&call).await,
        Verb::Patch => verbs::patch(&call).await,
        Verb::Delete => verbs::delete(&call).await,
        Verb::DeleteCollection => verbs::delete_collection(&call).await,
        Verb::None => Err(method_not_allowed()),
    }
}
