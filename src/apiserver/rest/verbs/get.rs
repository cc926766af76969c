//! One object.

use apimachinery::ApiError;

use crate::answer::Answer;
use crate::call::Call;

pub(crate) async fn get(call: &Call<'_>) -> Result<Answer, ApiError> {
    if call.served.description.kind.kind == "ComponentStatus" {
        return crate::virtual_kinds::component_status(call);
    }
    let object = call
        .state
        .store
        .get(&call.served.collection, &call.key())
        .await?;
    Ok(Answer::Object {
        code: 200,
        served: call.served.clone(),
        object,
    })
}
