//! Bounds, multiples and the ranges that formats of numbers stand for.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{Findings, Place};
use crate::structural::{Structural, StructuralType};

/// How far from a whole number a float may be, in proportion, and still count as one.
const INTEGER_TOLERANCE: f64 = 1e-9;
/// Beyond this a float cannot tell whole numbers apart.
const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// Whether upstream takes a float for a whole number.
pub(super) fn is_integer(number: f64) -> bool {
    let whole = number.trunc();
    let difference = (number - whole).abs();
    number.abs() <= INTEGER_MAX
        && (difference == 0.0
            || if whole == 0.0 {
                difference < INTEGER_TOLERANCE
            } else {
                difference / (number.abs() + whole.abs()) < INTEGER_TOLERANCE
            })
}

pub(super) fn judge(place: Place<'_>, value: &Value, schema: &Structural) -> Findings {
    let validation = schema.validation();
    let Some(number) = value.as_f64() else {
        return Findings::default();
    };
    let mut findings = Findings::of(out_of_range(place, value, schema));
    if let Some(factor) = validation.multiple_of {
        let quotient = if factor < 1.0 {
            number * (1.0 / factor)
        } else {
            number / factor
        };
        if factor > 0.0 && !is_integer(quotient) {
            let text = format_args!("be a multiple of {factor}");
            findings.errors.push(place.invalid(value, text));
        }
    }
    if let Some(max) = validation.maximum {
        if validation.exclusive_maximum && number >= max {
            findings
                .errors
                .push(place.invalid(value, format_args!("be less than {max}")));
        } else if number > max {
            let text = format_args!("be less than or equal to {max}");
            findings.errors.push(place.invalid(value, text));
        }
    }
    if let Some(min) = validation.minimum {
        if validation.exclusive_minimum && number <= min {
            findings
                .errors
                .push(place.invalid(value, format_args!("be greater than {min}")));
        } else if number < min {
            let text = format_args!("be greater than or equal to {min}");
            findings.errors.push(place.invalid(value, text));
        }
    }
    findings.checks += 1;
    findings
}

fn out_of_range(place: Place<'_>, value: &Value, schema: &Structural) -> Option<FieldError> {
    let format = schema.validation().format.as_deref().unwrap_or_default();
    let number = value.as_f64()?;
    let (type_name, format, fits) = match (schema.value_type?, format) {
        (StructuralType::Integer, "int32") => {
            let fits = value
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok());
            ("integer", "int32", fits)
        }
        (StructuralType::Integer, format) => {
            let fits = value.is_i64();
            ("integer", if format == "int64" { format } else { "" }, fits)
        }
        (StructuralType::Number, "float") => {
            ("number", "float", number.abs() <= f64::from(f32::MAX))
        }
        _ => return None,
    };
    if fits {
        return None;
    }
    let kind = match format {
        "" => format!("{type_name} (default format)"),
        format => format!("{type_name} with format {format}"),
    };
    let text = format!("Checked value must be of type {kind} in {}", place.path);
    Some(FieldError::invalid(&FieldPath::root(), "", text))
}
