//! Names in fields: labels, subdomains, qualified names, keys of maps.

use std::collections::BTreeMap;

use apimachinery::{
    FieldError, FieldErrors, FieldPath, annotation_errors, dns1123_label_error,
    dns1123_subdomain_error, label_value_error, qualified_name_errors,
};

use super::found;
use super::patterns::{Expression, pattern_error, too_many_characters};

const CONFIG_KEY_CHARACTERS_MAX: usize = 253;

pub(crate) fn dns_label(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    errors.extend(dns1123_label_error(name).map(|why| FieldError::invalid(path, name, why)));
}

pub(crate) fn dns_subdomain(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    errors.extend(dns1123_subdomain_error(name).map(|why| FieldError::invalid(path, name, why)));
}

/// A subdomain that may have underscores, as search domains of resolvers do.
pub(crate) fn dns_subdomain_with_underscores(
    errors: &mut FieldErrors,
    name: &str,
    path: &FieldPath,
) {
    const LABEL: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    static EXPRESSION: Expression =
        Expression::new("^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$");
    if name.len() > CONFIG_KEY_CHARACTERS_MAX {
        errors.push(FieldError::invalid(
            path,
            name,
            too_many_characters(CONFIG_KEY_CHARACTERS_MAX),
        ));
    }
    if !EXPRESSION.matches(name) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
                    and must start and end with an alphanumeric character";
        let why = pattern_error(rule, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"]);
        errors.push(FieldError::invalid(path, name, why));
    }
}

/// `*.example.com`.
pub(crate) fn wildcard_subdomain(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    let rest = name.strip_prefix("*.");
    if name.len() > CONFIG_KEY_CHARACTERS_MAX {
        errors.push(FieldError::invalid(
            path,
            name,
            too_many_characters(CONFIG_KEY_CHARACTERS_MAX),
        ));
    }
    if rest.is_none_or(|rest| dns1123_subdomain_error(rest).is_some()) {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                    consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        let label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
        let why = pattern_error(
            rule,
            &format!("\\*\\.{label}(\\.{label})*"),
            &["*.example.com"],
        );
        errors.push(FieldError::invalid(path, name, why));
    }
}

/// `name` or `prefix/name`.
pub(crate) fn qualified_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    errors.extend(
        qualified_name_errors(name)
            .into_iter()
            .map(|why| FieldError::invalid(path, name, why)),
    );
}

pub(crate) fn label_value(errors: &mut FieldErrors, value: &str, path: &FieldPath) {
    errors.extend(label_value_error(value).map(|why| FieldError::invalid(path, value, why)));
}

pub(crate) fn labels(
    errors: &mut FieldErrors,
    labels: Option<&BTreeMap<String, String>>,
    path: &FieldPath,
) {
    for (key, value) in labels.into_iter().flatten() {
        qualified_name(errors, key, path);
        label_value(errors, value, path);
    }
}

pub(crate) fn annotations(
    errors: &mut FieldErrors,
    annotations: Option<&BTreeMap<String, String>>,
    path: &FieldPath,
) {
    let pairs = annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    errors.extend(annotation_errors(pairs, path));
}

/// Keys of config maps and secrets, which become names of files.
pub(crate) fn config_key(errors: &mut FieldErrors, key: &str, path: &FieldPath) {
    let mut refuse = |why: String| errors.push(FieldError::invalid(path, key, why));
    if key.len() > CONFIG_KEY_CHARACTERS_MAX {
        refuse(too_many_characters(CONFIG_KEY_CHARACTERS_MAX));
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_legal) {
        refuse(pattern_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match key {
        "." => refuse("must not be '.'".to_owned()),
        ".." => refuse("must not be '..'".to_owned()),
        key if key.starts_with("..") => refuse("must not start with '..'".to_owned()),
        _ => {}
    }
}

/// Anything printable but `=` (KEP-4369).
pub(crate) fn environment_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::invalid(
            path,
            name,
            "environment variable name must be non-empty",
        ));
    }
    if !name
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
    {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(FieldError::invalid(path, name, why));
    }
}

/// A domain of at least two parts.
pub(crate) fn fully_qualified_domain(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Some(why) = dns1123_subdomain_error(name) {
        errors.push(FieldError::invalid(path, name, why));
        return;
    }
    if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, name, why));
        return;
    }
    if let Some((label, why)) = name
        .split('.')
        .find_map(|label| dns1123_label_error(label).map(|why| (label, why)))
    {
        errors.push(FieldError::invalid(path, label, why));
    }
}

/// `acme.io/foo`: a domain and something that can stand in a URL.
pub(crate) fn domain_prefixed_path(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    const PATH: &str = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";
    static EXPRESSION: Expression = Expression::new("^[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+$");
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    match name.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            dns_subdomain(errors, host, path);
            if !EXPRESSION.matches(rest) {
                errors.push(FieldError::invalid(
                    path,
                    rest,
                    pattern_error("Invalid path", PATH, &[]),
                ));
            }
        }
        _ => errors.push(FieldError::invalid(
            path,
            name,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        )),
    }
}

/// A name that goes into a header of HTTP.
pub(crate) fn header_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
        errors.push(FieldError::invalid(
            path,
            name,
            pattern_error(rule, "[-A-Za-z0-9]+", &["X-Header-Name"]),
        ));
    }
}

/// Names of drivers of the Container Storage Interface.
pub(crate) fn csi_driver(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    const BYTES_MAX: usize = 63;
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > BYTES_MAX {
        errors.push(FieldError::too_long(
            path,
            i64::try_from(BYTES_MAX).unwrap_or(i64::MAX),
        ));
    }
    errors.extend(
        dns1123_subdomain_error(&name.to_lowercase())
            .map(|why| FieldError::invalid(path, name, why)),
    );
}

/// A subdomain of at least three labels, as webhooks are named.
pub(crate) fn fully_qualified_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let refused = found(|errors| dns_subdomain(errors, name, path));
    if refused.is_empty() && name.split('.').count() < 3 {
        errors.push(FieldError::invalid(
            path,
            name,
            "should be a domain with at least three segments separated by dots",
        ));
    }
    errors.extend(refused);
}
