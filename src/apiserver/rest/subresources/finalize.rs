//! `/finalize` of a namespace: who has cleared its content takes its finalizer away.

use apimachinery::{ApiError, Object};

use crate::answer::Answer;
use crate::call::Call;
use crate::modify::{Part, modify};
use crate::{decode, metadata};

pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let options = call.write_options()?;
    let mut told = decode::object(call, options.field_validation)?;
    metadata::match_name(&mut told, &call.path.name)?;
    let outcome = modify(
        call,
        &call.key(),
        Part::Special,
        &options,
        |old: &Object| {
            let mut new = told.clone();
            match old.0.get("status") {
                Some(status) => new.0.insert("status".to_owned(), status.clone()),
                None => new.0.remove("status"),
            };
            Ok(new)
        },
    )
    .await?;
    Ok(outcome.answer(call, 200))
}
