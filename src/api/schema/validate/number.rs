//! Bounds, multiples and the ranges that formats of numbers stand for.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{Findings, Place};
use crate::structural::{Structural, StructuralType};

/// How far from a whole number a quotient may be and still count as one.
const MULTIPLE_TOLERANCE: f64 = 1e-9;

pub(super) fn judge(place: Place<'_>, value: &Value, schema: &Structural) -> Findings {
    let validation = schema.validation();
    let Some(number) = value.as_f64() else {
        return Findings::default();
    };
    let mut findings = Findings::of(out_of_range(place, value, schema));
    if let Some(factor) = validation.multiple_of {
        let quotient = number / factor;
        if factor > 0.0 && (quotient - quotient.round()).abs() > MULTIPLE_TOLERANCE {
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
        // A number that is no i64 came as a float beyond its range, or is no integer, which the type tells.
        (StructuralType::Integer, format) => {
            let fits = value.is_i64() || number.fract() != 0.0;
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
