//! The rules for names, labels and annotations; texts are those of apimachinery's `validation` package.

use crate::{FieldError, FieldPath};

const LABEL_BYTES_MAX: usize = 63;
const SUBDOMAIN_BYTES_MAX: usize = 253;
/// All keys and values of one object's annotations together, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// A generated name's base is cut so that base and suffix fit a DNS label.
const GENERATED_BASE_BYTES_MAX: usize = 58;
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Which names a kind allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    DnsSubdomain,
    DnsLabel,
    Dns1035Label,
    /// Anything that can stand as one segment of a URL's path.
    PathSegment,
}

impl NameRule {
    /// Why `name` is refused; `None` if it is good.
    pub fn error(self, name: &str) -> Option<String> {
        match self {
            Self::DnsSubdomain => dns1123_subdomain_error(name),
            Self::DnsLabel => dns1123_label_error(name),
            Self::Dns1035Label => dns1035_label_error(name),
            Self::PathSegment => path_segment_error(name),
        }
    }
}

/// A name from `metadata.generateName` and five letters taken from `random`.
pub fn generate_name(base: &str, random: u64) -> String {
    let mut end = base.len().min(GENERATED_BASE_BYTES_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    let mut rest = random;
    for _ in 0..5 {
        let count = SUFFIX_LETTERS.len() as u64;
        name.push(char::from(
            SUFFIX_LETTERS[usize::try_from(rest % count).unwrap_or(0)],
        ));
        rest /= count;
    }
    name
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_lower_alphanumeric(first)
        && is_lower_alphanumeric(last)
        && bytes
            .iter()
            .all(|&byte| is_lower_alphanumeric(byte) || byte == b'-')
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// Why `name` is no DNS label (RFC 1123).
pub fn dns1123_label_error(name: &str) -> Option<String> {
    if name.len() > LABEL_BYTES_MAX {
        return Some(too_long(LABEL_BYTES_MAX));
    }
    if is_dns_label(name) {
        return None;
    }
    if dns1123_subdomain_error(name).is_none() {
        return Some("must not contain dots".to_owned());
    }
    Some(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            .to_owned(),
    )
}

/// Why `name` is no DNS subdomain (RFC 1123).
pub fn dns1123_subdomain_error(name: &str) -> Option<String> {
    if name.len() > SUBDOMAIN_BYTES_MAX {
        return Some(too_long(SUBDOMAIN_BYTES_MAX));
    }
    if name.split('.').all(is_dns_label) {
        return None;
    }
    Some(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .to_owned(),
    )
}

/// Why `name` is no DNS label that starts with a letter (RFC 1035).
pub fn dns1035_label_error(name: &str) -> Option<String> {
    if name.len() > LABEL_BYTES_MAX {
        return Some(too_long(LABEL_BYTES_MAX));
    }
    if is_dns_label(name) && name.as_bytes()[0].is_ascii_lowercase() {
        return None;
    }
    Some(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
         character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
         is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            .to_owned(),
    )
}

/// Why `name` cannot be a segment of a URL's path.
pub fn path_segment_error(name: &str) -> Option<String> {
    if name == "." || name == ".." {
        return Some(format!("may not be '{name}'"));
    }
    let illegal: Vec<&str> = ["/", "%"]
        .into_iter()
        .filter(|part| name.contains(part))
        .collect();
    illegal
        .first()
        .map(|part| format!("may not contain '{part}'"))
}

fn is_qualified_part(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Every reason why `name` is no qualified name (`prefix/name`).
pub fn qualified_name_errors(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = name.split('/').collect();
    let part = match parts.as_slice() {
        [part] => *part,
        [prefix, part] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else if let Some(error) = dns1123_subdomain_error(prefix) {
                errors.push(format!("prefix part {error}"));
            }
            *part
        }
        _ => {
            return vec![
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                 with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                 validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and \
                 '/' (e.g. 'example.com/MyName')"
                    .replace("a valid label key", "a qualified name"),
            ];
        }
    };
    if part.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if part.len() > LABEL_BYTES_MAX {
        errors.push(format!("name part {}", too_long(LABEL_BYTES_MAX)));
    }
    if !is_qualified_part(part) {
        errors.push(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                .to_owned(),
        );
    }
    errors
}

/// Why `key` is no label key.
pub fn label_key_error(key: &str) -> Option<String> {
    let errors = qualified_name_errors(key);
    (!errors.is_empty()).then(|| errors.join("; "))
}

/// Why `value` is no label value; the empty value is good.
pub fn label_value_error(value: &str) -> Option<String> {
    if value.len() > LABEL_BYTES_MAX {
        return Some(too_long(LABEL_BYTES_MAX));
    }
    if value.is_empty() || is_qualified_part(value) {
        return None;
    }
    Some(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .to_owned(),
    )
}

/// Errors of a map of labels at `path`.
pub fn label_errors<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        errors.extend(
            qualified_name_errors(key)
                .into_iter()
                .map(|why| FieldError::invalid(path, key, why)),
        );
        if let Some(why) = label_value_error(value) {
            errors.push(FieldError::invalid(path, value, why));
        }
    }
    errors
}

/// Errors of a map of annotations at `path`.
pub fn annotation_errors<'a>(
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in annotations {
        // Keys were once stored with capitals; the rule is about the lower-case form.
        let lower = key.to_lowercase();
        errors.extend(
            qualified_name_errors(&lower)
                .into_iter()
                .map(|why| FieldError::invalid(path, key, why)),
        );
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(
            path,
            i64::try_from(ANNOTATIONS_BYTES_MAX).unwrap_or(i64::MAX),
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_no_dots_and_a_subdomain_may() {
        assert_eq!(
            dns1123_label_error("a.b").as_deref(),
            Some("must not contain dots")
        );
        assert_eq!(dns1123_subdomain_error("a.b"), None);
        assert!(dns1123_subdomain_error("A").is_some());
        assert!(dns1123_subdomain_error("a..b").is_some());
    }

    #[test]
    fn a_generated_name_fits_a_label() {
        assert_eq!(generate_name(&"x".repeat(80), 12345).len(), 63);
    }
}
