//! What hangs below an object, one file each.

use std::sync::Arc;

use apimachinery::ApiError;
use registry::Subresource;

use crate::answer::{Answer, method_not_allowed};
use crate::call::{Call, body_of};
use crate::catalog::Served;
use crate::filters::{Authorized, Incoming};
use crate::modify::Part;
use crate::request_info::Verb;
use crate::state::State;
use crate::verbs;

pub(crate) async fn dispatch(
    state: &Arc<State>,
    authorized: &Authorized,
    served: &Arc<Served>,
    mut request: Incoming,
) -> Result<Answer, ApiError> {
    let path = authorized.resource().expect("subresources are resources");
    let found = served.description.subresources.iter().find(|subresource| subresource.name() == path.subresource);
    let Some(&subresource) = found else { return Err(ApiError::no_such_path()) };
    if !subresource.verbs().contains(&path.verb().name()) {
        return Err(method_not_allowed());
    }
    let body = if path.verb().is_read() { bytes::Bytes::new() } else { body_of(&mut request).await? };
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
        (Subresource::Status, Verb::Get) => verbs::get(&call).await,
        (Subresource::Status, Verb::Update) => verbs::update::update_part(&call, Part::Status).await,
        (Subresource::Status, Verb::Patch) => verbs::patch::patch_part(&call, Part::Status).await,
        _ => Err(ApiError::new(501, apimachinery::Reason::Unknown, format!("{} is not served", subresource.name()))),
    }
}
