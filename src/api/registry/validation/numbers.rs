//! Numbers: signs and ranges.

use apimachinery::{FieldError, FieldErrors, FieldPath};

pub(crate) const IS_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const IS_NOT_POSITIVE: &str = "must be greater than zero";

pub(crate) fn non_negative(errors: &mut FieldErrors, number: impl Into<i64>, path: &FieldPath) {
    let number = number.into();
    if number < 0 {
        errors.push(FieldError::invalid(path, number, IS_NEGATIVE));
    }
}

pub(crate) fn positive(errors: &mut FieldErrors, number: impl Into<i64>, path: &FieldPath) {
    let number = number.into();
    if number <= 0 {
        errors.push(FieldError::invalid(path, number, IS_NOT_POSITIVE));
    }
}

pub(crate) fn in_range(
    errors: &mut FieldErrors,
    number: impl Into<i64>,
    low: i64,
    high: i64,
    path: &FieldPath,
) {
    let number = number.into();
    if !(low..=high).contains(&number) {
        errors.push(FieldError::invalid(path, number, outside(low, high)));
    }
}

pub(crate) fn outside(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// Ids of users and groups.
pub(crate) fn unix_id(errors: &mut FieldErrors, id: Option<i64>, path: &FieldPath) {
    if let Some(id) = id {
        in_range(errors, id, 0, i64::from(i32::MAX), path);
    }
}

/// Permission bits of files.
pub(crate) fn file_mode(errors: &mut FieldErrors, mode: Option<i32>, path: &FieldPath) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(FieldError::invalid(
            path,
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        ));
    }
}
