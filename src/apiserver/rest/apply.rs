//! Server-side apply: a configuration merges into what is there, and its fields get an owner.

use apimachinery::ApiError;

use crate::answer::Answer;
use crate::call::{Call, WriteOptions};
use crate::modify::Part;

pub(crate) async fn apply(_call: &Call<'_>, _part: Part, _options: &WriteOptions) -> Result<Answer, ApiError> {
    Err(ApiError::unsupported_media_type("server-side apply is not served"))
}
