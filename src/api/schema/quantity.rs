//! The text of a quantity as the API keeps it.

use apimachinery::{Quantity, QuantityError};

/// How many decimal digits always fit an `i64`.
const SAFE_DIGITS: i32 = 18;
/// Powers of ten below nano are rounded.
const SCALE_MIN: i32 = -9;

/// The canonical text of a quantity: upstream keeps what was written where that is as short as can be, and writes
/// everything else anew.
pub fn canonical_quantity(text: &str) -> Result<String, QuantityError> {
    let quantity = Quantity::parse(text)?;
    Ok(if !quantity.is_zero() && is_kept(text) {
        text.to_owned()
    } else {
        quantity.to_string()
    })
}

fn is_kept(text: &str) -> bool {
    let unsigned = text.trim_start_matches(['+', '-']).trim_start_matches('0');
    let whole_end = digits(unsigned);
    let (whole, rest) = unsigned.split_at(whole_end);
    let whole = if whole.is_empty() && !rest.is_empty() {
        "0"
    } else {
        whole
    };
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(after) => after.split_at(digits(after)),
        None => ("", rest),
    };
    let shifted = format!("{whole}{fraction}");
    let Ok(value) = shifted.parse::<i64>() else {
        return false;
    };
    let length = |text: &str| i32::try_from(text.len()).unwrap_or(i32::MAX);
    if let Some(letter) = suffix.strip_suffix('i') {
        let Some(power) = "KMGTPE".find(letter) else {
            return false;
        };
        let exponent = 10 * (i32::try_from(power).unwrap_or(0) + 1);
        let precision = 15 - length(whole) - exponent * 3 / 10 - 1;
        return fraction.is_empty()
            && precision >= 0
            && value.checked_mul(1 << exponent).is_some()
            && value & 7 != 0;
    }
    let Some(exponent) = decimal_exponent(suffix) else {
        return false;
    };
    let scale = exponent.saturating_sub(length(fraction));
    SAFE_DIGITS - length(&shifted) >= 0
        && scale >= SCALE_MIN
        && scale % 3 == 0
        && !shifted.ends_with("000")
        && !shifted.starts_with('0')
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn decimal_exponent(suffix: &str) -> Option<i32> {
    Some(match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        other => return other.strip_prefix(['e', 'E'])?.parse().ok(),
    })
}
