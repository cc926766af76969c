//! The string formats that schemas of custom resources may name; unknown ones are ignored, as upstream does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Findings, Place};
use crate::structural::{Structural, StructuralType};
use crate::time::{UnixTime, parse_duration};

/// The formats of texts that count.
const FORMATS: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// The format of a schema, where it is one that counts for its type.
pub(super) fn effective(schema: &Structural) -> Option<&str> {
    let format = schema.validation().format.as_deref()?;
    let value_type = if schema.int_or_string {
        None
    } else {
        schema.value_type
    };
    let counts = match value_type {
        None | Some(StructuralType::String) => FORMATS.contains(&&*format.replace('-', "")),
        Some(StructuralType::Integer) => matches!(format, "int32" | "int64"),
        Some(StructuralType::Number) => matches!(format, "float" | "double"),
        Some(_) => false,
    };
    counts.then_some(format)
}

pub(super) fn judge(place: Place<'_>, text: &str, schema: &Structural) -> Findings {
    let Some(format) = effective(schema).filter(|format| !is_format(format, text)) else {
        return Findings::default();
    };
    let path = place.field_path();
    let message = format!("{} in body must be of type {format}: {text:?}", place.path);
    Findings::of(Some(apimachinery::FieldError::type_invalid(
        &path, text, message,
    )))
}

/// Whether a text has a format. The name may be written with dashes (`date-time`).
fn is_format(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && is_hex(text),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => is_ssn(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && is_hex(digits)
        }
        "rgbcolor" => is_rgb_color(text),
        "byte" => !text.is_empty() && STANDARD.decode(text).is_ok(),
        "date" => UnixTime::parse(&format!("{text}T00:00:00Z")).is_ok(),
        "duration" => is_duration(text),
        "datetime" => is_date_time(text),
        "k8sshortname" => text.len() <= 63 && is_dns_label(text),
        "k8slongname" => text.len() <= 253 && text.split('.').all(is_dns_label),
        _ => true,
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What Go's `url.ParseRequestURI` takes: an absolute URI or an absolute path.
fn is_uri(text: &str) -> bool {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut characters = scheme.chars();
    let scheme_fits = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|next| next.is_ascii_alphanumeric() || matches!(next, '+' | '-' | '.'));
    scheme_fits
        && !rest
            .split('/')
            .nth(2)
            .is_some_and(|host| host.contains(' '))
}

fn is_email(text: &str) -> bool {
    let address = match (text.find('<'), text.strip_suffix('>')) {
        (Some(start), Some(inner)) => &inner[start + 1..],
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let fits = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !part.contains("..")
            && !part.contains(|c: char| c.is_whitespace() || "()<>[]:;@\\,\"".contains(c))
    };
    fits(local) && fits(domain)
}

fn is_hostname(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let label_fits = |label: &&str| {
        !label.is_empty()
            && label.chars().count() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    text.len() <= 255 && labels.iter().all(label_fits) && {
        let last = labels.last().copied().unwrap_or_default();
        labels.len() == 1 || (last.chars().count() >= 2 && last.chars().all(char::is_alphabetic))
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    is_number && length.parse::<u32>().is_ok_and(|length| length <= max)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts.iter().all(|part| part.len() == width && is_hex(part))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    // Each dash may be missing on its own.
    let mut rest = text;
    let mut digits = String::new();
    for (index, width) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some((group, after)) = rest.split_at_checked(width) else {
            return false;
        };
        digits.push_str(group);
        rest = after;
    }
    let digits: Vec<char> = digits
        .chars()
        .map(|digit| digit.to_ascii_lowercase())
        .collect();
    if !rest.is_empty() || digits.len() != 32 || !digits.iter().all(char::is_ascii_hexdigit) {
        return false;
    }
    match version {
        None => true,
        Some('3') => digits[12] == '3',
        Some(version) => digits[12] == version && "89ab".contains(digits[16]),
    }
}

fn digits_of(text: &str) -> String {
    text.chars()
        .filter(|character| !matches!(character, '-' | ' '))
        .collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = digits_of(text);
    if digits.len() != 10 {
        return false;
    }
    let mut sum = 0;
    for (index, character) in digits.chars().enumerate() {
        let value = match character.to_digit(10) {
            Some(value) => value,
            None if index == 9 && character == 'X' => 10,
            None => return false,
        };
        sum += value * (u32::try_from(index).expect("below ten") + 1);
    }
    sum.is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let digits: Option<Vec<u32>> = digits_of(text)
        .chars()
        .map(|digit| digit.to_digit(10))
        .collect();
    let Some(digits) = digits.filter(|digits| digits.len() == 13) else {
        return false;
    };
    let sum: u32 = digits
        .iter()
        .enumerate()
        .map(|(index, digit)| digit * if index % 2 == 0 { 1 } else { 3 })
        .sum();
    sum.is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|character| character.to_digit(10))
        .collect();
    let prefix = |length: usize| {
        digits[..length]
            .iter()
            .fold(0, |sum, digit| sum * 10 + digit)
    };
    if digits.len() < 13 {
        return false;
    }
    let known = match digits.len() {
        13 => prefix(1) == 4,
        14 => matches!(prefix(3), 300..=305) || matches!(prefix(2), 36 | 38),
        15 => matches!(prefix(2), 34 | 37) || matches!(prefix(4), 2131 | 1800),
        16 => {
            prefix(1) == 4
                || matches!(prefix(2), 51..=55 | 65)
                || prefix(4) == 6011
                || prefix(2) == 35
        }
        _ => false,
    };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    known && sum.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let mut rest = text;
    for (index, width) in [3, 2, 4].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(['-', ' ']).unwrap_or(rest);
        }
        match rest.split_at_checked(width) {
            Some((digits, after)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                rest = after;
            }
            _ => return false,
        }
    }
    rest.is_empty()
}

fn is_rgb_color(text: &str) -> bool {
    let inner = text
        .strip_prefix("rgb(")
        .and_then(|rest| rest.strip_suffix(')'));
    let parts: Vec<&str> = inner
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

/// Go durations, and the longer spellings such as `22 ns` or `3 days`.
fn is_duration(text: &str) -> bool {
    if parse_duration(text).is_ok() {
        return true;
    }
    let number = text.trim().trim_start_matches('-');
    let digits = number
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (value, unit) = number.split_at(digits);
    let units = [
        "nanos", "nano", "ns", "us", "micros", "micro", "ms", "millis", "milli", "s", "sec",
        "seconds", "second", "m", "min", "minutes", "minute", "h", "hr", "hour", "hours", "d",
        "day", "days", "w", "wk", "week", "weeks",
    ];
    value.parse::<f64>().is_ok() && units.contains(&unit.trim().to_ascii_lowercase().as_str())
}

fn is_date_time(text: &str) -> bool {
    // Upstream takes a lower-case letter and no zone too.
    let upper = text.to_ascii_uppercase();
    UnixTime::parse(&upper).is_ok() || UnixTime::parse(&format!("{upper}Z")).is_ok()
}

fn is_dns_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::is_format;

    #[test]
    fn each_format_tells_right_from_wrong() {
        for (format, right, wrong) in [
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fe80::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11:22"),
            (
                "uuid4",
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
                "f47ac10b-58cc-1372-a567-0e02b2c3d479",
            ),
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15"),
            ("date", "2006-01-02", "2006-13-02"),
            ("uri", "https://example.com/x", "example"),
            ("email", "a@example.com", "a.example.com"),
            ("hostname", "a.example.com", "-a.com"),
            ("byte", "YQ==", "?"),
            ("duration", "22 ns", "22 apples"),
            ("hexcolor", "#fff", "#ffff"),
            ("rgbcolor", "rgb(1,2,3)", "rgb(1,2)"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("ssn", "123-45-6789", "123-456-789"),
            ("k8s-short-name", "a-b", "A"),
            ("k8s-long-name", "a.b", "a..b"),
        ] {
            assert!(is_format(format, right), "{format}: {right}");
            assert!(!is_format(format, wrong), "{format}: {wrong}");
        }
        assert!(is_format("unheard-of", "anything"));
    }
}
