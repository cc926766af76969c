//! The one place where writes meet the bookkeeping of who owns which field.

use apimachinery::{ApiError, Object};

use crate::call::{Call, WriteOptions};

/// Notes the manager of a new object's fields.
pub(crate) fn on_create(_call: &Call<'_>, object: &mut Object, _options: &WriteOptions) -> Result<(), ApiError> {
    object.metadata_mut().remove("managedFields");
    Ok(())
}

/// Notes the manager of the fields that an update changed.
pub(crate) fn on_update(
    _call: &Call<'_>,
    object: &mut Object,
    old: &Object,
    _options: &WriteOptions,
) -> Result<(), ApiError> {
    crate::metadata::copy(object, old, "managedFields");
    Ok(())
}
