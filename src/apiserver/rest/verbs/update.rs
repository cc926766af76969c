//! A whole object in place of the one that is there.

use apimachinery::{ApiError, Object};
use registry::Permission;

use crate::answer::Answer;
use crate::call::Call;
use crate::modify::{Part, modify};
use crate::verbs::create::create_object;
use crate::{decode, metadata};

pub(crate) async fn update(call: &Call<'_>) -> Result<Answer, ApiError> {
    update_part(call, Part::Main).await
}

pub(crate) async fn update_part(call: &Call<'_>, part: Part) -> Result<Answer, ApiError> {
    let options = call.write_options()?;
    let mut object = decode::object(call, options.field_validation)?;
    let key = call.key();
    if object.name().is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    metadata::match_name(&mut object, &key.name)?;
    metadata::match_namespace(&mut object, &key.namespace)?;
    let outcome = modify(call, &key, part, &options, |_old| Ok(object.clone())).await;
    match outcome {
        Err(error) if error.is_not_found() && part == Part::Main && creates(call, &object) => {
            let outcome = create_object(call, without_version(object), &options).await?;
            Ok(outcome.answer(call, 201))
        }
        other => Ok(other?.answer(call, 200)),
    }
}

fn creates(call: &Call<'_>, object: &Object) -> bool {
    call.served.description.create_on_update == Permission::Allowed
        && matches!(object.resource_version(), "" | "0")
        && object.uid().is_empty()
}

fn without_version(mut object: Object) -> Object {
    object.set_metadata_text("resourceVersion", "");
    object
}
