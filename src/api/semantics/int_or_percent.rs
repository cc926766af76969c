//! Amounts given as a number or as a percentage of something (`maxSurge: 25%`).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Up,
    Down,
}

/// The amount that `value`, a number or a text such as `25%`, means for `total`; a missing or malformed one means none.
pub fn scaled(value: Option<&Value>, total: i32, rounding: Rounding) -> i32 {
    match value {
        Some(Value::Number(number)) => number.as_i64().map_or(0, saturate),
        Some(Value::String(text)) => percent_of(text, total, rounding),
        _ => 0,
    }
}

/// As `scaled`, of the API's own type.
pub fn scaled_typed(value: Option<&IntOrString>, total: i32, rounding: Rounding) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => percent_of(text, total, rounding),
        None => 0,
    }
}

fn percent_of(text: &str, total: i32, rounding: Rounding) -> i32 {
    let Some(percent) = text
        .strip_suffix('%')
        .and_then(|percent| percent.parse::<i64>().ok())
    else {
        return 0;
    };
    let product = percent.saturating_mul(i64::from(total));
    let up = i64::from(rounding == Rounding::Up && product % 100 > 0);
    saturate(product / 100 + up)
}

fn saturate(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_they_are_told() {
        assert_eq!(scaled(Some(&"25%".into()), 10, Rounding::Up), 3);
        assert_eq!(scaled(Some(&"25%".into()), 10, Rounding::Down), 2);
        assert_eq!(scaled(Some(&5.into()), 10, Rounding::Down), 5);
        assert_eq!(scaled(None, 10, Rounding::Up), 0);
    }
}
