//! Every object that a selector finds.

use apimachinery::ApiError;
use storage::List;

use crate::answer::Answer;
use crate::call::Call;
use crate::delete_options::DeleteOptions;
use crate::verbs::delete::{Deleted, delete_object};
use crate::verbs::list::list_options;

pub(crate) async fn delete_collection(call: &Call<'_>) -> Result<Answer, ApiError> {
    let options = DeleteOptions::of(call)?;
    let list = call
        .state
        .store
        .list(&call.served.collection, &list_options(call)?)
        .await?;
    let mut items = Vec::with_capacity(list.items.len());
    for item in &list.items {
        match delete_object(call, item.key(), &options).await {
            Ok(
                Deleted::Gone(object) | Deleted::Pending(object) | Deleted::AlreadyPending(object),
            ) => {
                items.push(object);
            }
            Ok(Deleted::Imagined(_)) => items.push(item.clone()),
            // Somebody else deleted it: that is what was asked for.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let list = List { items, ..list };
    Ok(Answer::List {
        served: call.served.clone(),
        list,
    })
}
