//! Rules that many kinds share: names, numbers, ports, addresses, selectors, amounts, and what may not change.
//!
//! Every function adds what it finds to a list; texts and paths are those of upstream's validation, since clients compare them.

pub(crate) mod addresses;
pub(crate) mod amounts;
pub(crate) mod changes;
pub(crate) mod names;
pub(crate) mod numbers;
pub(crate) mod patterns;
pub(crate) mod ports;
pub(crate) mod resource_names;
pub(crate) mod selectors;
pub(crate) mod webhooks;

use apimachinery::{FieldError, FieldErrors, FieldPath};

/// `text` must be there.
pub(crate) fn required(errors: &mut FieldErrors, text: &str, path: &FieldPath) {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
}

/// `text` must be one of `supported`, which upstream lists in this order.
pub(crate) fn one_of(errors: &mut FieldErrors, text: &str, supported: &[&str], path: &FieldPath) {
    if !supported.contains(&text) {
        errors.push(FieldError::not_supported(path, text, supported));
    }
}

/// As [`one_of`], of a text that must be there.
pub(crate) fn required_one_of(
    errors: &mut FieldErrors,
    text: &str,
    supported: &[&str],
    path: &FieldPath,
) {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        one_of(errors, text, supported, path);
    }
}

/// The text of an optional field; missing and empty are the same, as Go sees them.
pub(crate) fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// Runs `check` on a list of its own, for callers that must know whether something was found.
pub(crate) fn found(check: impl FnOnce(&mut FieldErrors)) -> FieldErrors {
    let mut errors = FieldErrors::none();
    check(&mut errors);
    errors
}

/// A path of several fields.
pub(crate) fn path(fields: &[&str]) -> FieldPath {
    fields
        .iter()
        .fold(FieldPath::root(), |path, field| path.child(field))
}
