//! `resource.Quantity`: exact decimal amounts with SI and binary suffixes, and their canonical form.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Which family of suffixes an amount is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    DecimalSi,
    DecimalExponent,
    BinarySi,
}

/// An exact amount in nano units: from 1n to about 1.7e20 (i128 nanos), both signs. Finer amounts round up, as upstream does.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Upstream caps amounts at 2^63-1 of the unit.
const NANOS_MAX: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    pub fn from_units(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANO,
            format: Format::DecimalSi,
        }
    }

    pub fn from_millis(millis: i64) -> Self {
        Self {
            nanos: i128::from(millis) * 1_000_000,
            format: Format::DecimalSi,
        }
    }

    /// Bytes written with binary suffixes: `4Gi`.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            nanos: i128::from(bytes) * NANO,
            format: Format::BinarySi,
        }
    }

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let number_end = text
            .char_indices()
            .find(|(index, character)| {
                !(character.is_ascii_digit()
                    || *character == '.'
                    || (*index == 0 && matches!(character, '+' | '-')))
            })
            .map_or(text.len(), |(index, _)| index);
        let (number, suffix) = text.split_at(number_end);
        let (scale, format) = parse_suffix(suffix)?;
        let nanos = scale.apply(parse_decimal(number)?);
        Ok(Self {
            nanos: nanos.clamp(-NANOS_MAX, NANOS_MAX),
            format,
        })
    }

    /// Whole units, rounded up (away from zero), as `Value()`.
    pub fn units(self) -> i64 {
        i64::try_from(round_up(self.nanos, NANO)).unwrap_or(if self.nanos < 0 {
            i64::MIN
        } else {
            i64::MAX
        })
    }

    /// Thousandths, rounded up (away from zero), as `MilliValue()`.
    pub fn millis(self) -> i64 {
        i64::try_from(round_up(self.nanos, 1_000_000)).unwrap_or(if self.nanos < 0 {
            i64::MIN
        } else {
            i64::MAX
        })
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// True for a multiple of one unit.
    pub fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        let format = if self.nanos == 0 {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: (self.nanos + other.nanos).clamp(-NANOS_MAX, NANOS_MAX),
            format,
        }
    }

    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        self.saturating_add(Self {
            nanos: -other.nanos,
            format: other.format,
        })
    }
}

/// The canonical form of `text`, or why it is no quantity.
impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

/// A decimal number: digits without the point, and how many of them stand behind it.
struct Decimal {
    mantissa: i128,
    fraction_digits: u32,
}

impl Scale {
    fn apply(self, decimal: Decimal) -> i128 {
        match self {
            Self::Two(bits) => scale_ten(
                decimal.mantissa.saturating_mul(1 << bits),
                9 - i64::from(decimal.fraction_digits),
            ),
            Self::Ten(exponent) => scale_ten(
                decimal.mantissa,
                9 + i64::from(exponent) - i64::from(decimal.fraction_digits),
            ),
        }
    }
}

fn scale_ten(mantissa: i128, exponent: i64) -> i128 {
    if mantissa == 0 {
        return 0;
    }
    match u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX) {
        power if exponent >= 0 => 10i128
            .checked_pow(power)
            .map_or(i128::MAX * mantissa.signum(), |factor| {
                mantissa.saturating_mul(factor)
            }),
        power => 10i128
            .checked_pow(power)
            .map_or(mantissa.signum(), |divisor| round_up(mantissa, divisor)),
    }
}

fn round_up(amount: i128, unit: i128) -> i128 {
    let whole = amount / unit;
    if amount % unit == 0 {
        whole
    } else {
        whole + amount.signum()
    }
}

fn parse_decimal(number: &str) -> Result<Decimal, QuantityError> {
    let (negative, digits) = match number.as_bytes().first() {
        Some(b'-') => (true, &number[1..]),
        Some(b'+') => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError::Format);
    }
    let mut mantissa: i128 = 0;
    for digit in whole.bytes() {
        mantissa = mantissa
            .saturating_mul(10)
            .saturating_add(i128::from(digit - b'0'));
    }
    let mut fraction_digits = 0;
    let mut lost = false;
    for digit in fraction.bytes() {
        if fraction_digits < 18 {
            mantissa = mantissa
                .saturating_mul(10)
                .saturating_add(i128::from(digit - b'0'));
            fraction_digits += 1;
        } else {
            lost |= digit != b'0';
        }
    }
    if lost {
        mantissa = mantissa.saturating_add(1);
    }
    Ok(Decimal {
        mantissa: if negative { -mantissa } else { mantissa },
        fraction_digits,
    })
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    let scale = match suffix {
        "" => (Scale::Ten(0), Format::DecimalSi),
        "n" => (Scale::Ten(-9), Format::DecimalSi),
        "u" => (Scale::Ten(-6), Format::DecimalSi),
        "m" => (Scale::Ten(-3), Format::DecimalSi),
        "k" => (Scale::Ten(3), Format::DecimalSi),
        "M" => (Scale::Ten(6), Format::DecimalSi),
        "G" => (Scale::Ten(9), Format::DecimalSi),
        "T" => (Scale::Ten(12), Format::DecimalSi),
        "P" => (Scale::Ten(15), Format::DecimalSi),
        "E" => (Scale::Ten(18), Format::DecimalSi),
        "Ki" => (Scale::Two(10), Format::BinarySi),
        "Mi" => (Scale::Two(20), Format::BinarySi),
        "Gi" => (Scale::Two(30), Format::BinarySi),
        "Ti" => (Scale::Two(40), Format::BinarySi),
        "Pi" => (Scale::Two(50), Format::BinarySi),
        "Ei" => (Scale::Two(60), Format::BinarySi),
        exponent => (
            Scale::Ten(parse_exponent(exponent)?),
            Format::DecimalExponent,
        ),
    };
    Ok(scale)
}

fn parse_exponent(suffix: &str) -> Result<i32, QuantityError> {
    let wrong = || {
        let known_letters = suffix
            .bytes()
            .all(|byte| b"eEinumkKMGTP+-0123456789".contains(&byte));
        if known_letters {
            QuantityError::Suffix
        } else {
            QuantityError::Format
        }
    };
    let digits = suffix.strip_prefix(['e', 'E']).ok_or_else(wrong)?;
    digits.parse().map_err(|_error| wrong())
}

/// The canonical form: no fraction, the largest suffix that keeps the amount whole.
impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return formatter.write_str("0");
        }
        // An amount below 1024 or with a fraction has no binary form.
        if self.format == Format::BinarySi
            && self.nanos % NANO == 0
            && self.nanos.abs() >= 1024 * NANO
        {
            return format_binary(self.nanos / NANO, formatter);
        }
        let mut mantissa = self.nanos;
        let mut exponent = -9;
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return match exponent {
                0 => write!(formatter, "{mantissa}"),
                _ => write!(formatter, "{mantissa}e{exponent}"),
            };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let index = usize::try_from((exponent + 9) / 3).unwrap_or(0);
        write!(formatter, "{mantissa}{}", suffix[index])
    }
}

fn format_binary(units: i128, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut mantissa = units;
    let mut index = 0;
    while mantissa % 1024 == 0 && index < 6 {
        mantissa /= 1024;
        index += 1;
    }
    write!(
        formatter,
        "{mantissa}{}",
        ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][index]
    )
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Quantity::parse(text).expect("a quantity").to_string()
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        for (given, canonical_form) in [
            ("0", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("1000k", "1M"),
            ("12", "12"),
            ("1Ki", "1Ki"),
            ("0.1Gi", "107374182400m"),
            ("-1.5", "-1500m"),
            ("100", "100"),
            ("1000", "1k"),
            ("1.123456789123", "1123456790n"),
            ("512Mi", "512Mi"),
            ("1000000Ki", "1000000Ki"),
            ("2.0", "2"),
            ("0.5Ki", "512"),
        ] {
            assert_eq!(canonical(given), canonical_form, "of {given}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "a", "1x", "1.2.3", "1 ", " 1", "--1", "1KiB", "e3"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        assert_eq!(Quantity::parse("1m").map(Quantity::units), Ok(1));
        assert_eq!(Quantity::parse("1500u").map(Quantity::millis), Ok(2));
    }
}
