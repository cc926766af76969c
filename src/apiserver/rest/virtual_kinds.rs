//! Kinds that are questions: answered and not kept.

use apimachinery::{ApiError, Object};

use crate::answer::{Answer, method_not_allowed};
use crate::call::{Call, WriteOptions};

pub(crate) async fn create(_call: &Call<'_>, _object: Object, _options: &WriteOptions) -> Result<Answer, ApiError> {
    Err(method_not_allowed())
}
