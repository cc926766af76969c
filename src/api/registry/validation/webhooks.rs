//! Where webhooks are reached, and which reviews they understand.

use std::collections::BTreeSet;

use apimachinery::{
    FieldError, FieldErrors, FieldPath, dns1035_label_error, dns1123_subdomain_error,
};

use super::changes::json;

const FORM: &str = "; desired format: https://host[/path]";

pub(crate) fn url(errors: &mut FieldErrors, target: &str, path: &FieldPath) {
    let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
    let mut refuse = |value: &str, why: String| errors.push(FieldError::invalid(path, value, why));
    if scheme != "https" {
        refuse(
            scheme,
            format!("'https' is the only allowed URL scheme{FORM}"),
        );
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() {
        refuse(host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        refuse(
            user,
            "user information is not permitted in the URL".to_owned(),
        );
    }
    if !fragment.is_empty() {
        refuse(
            fragment,
            "fragments are not permitted in the URL".to_owned(),
        );
    }
    if !query.is_empty() {
        refuse(
            query,
            "query parameters are not permitted in the URL".to_owned(),
        );
    }
}

/// Upstream takes the service's name for its namespace and the other way round, which only shows in the paths.
pub(crate) fn service(
    errors: &mut FieldErrors,
    name: &str,
    namespace: &str,
    target: Option<&str>,
    port: i32,
    path: &FieldPath,
) {
    for (value, field) in [(namespace, "name"), (name, "namespace")] {
        if value.is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    if !(1..=65_535).contains(&port) {
        let why = format!("port is not valid: {}", super::numbers::outside(1, 65_535));
        errors.push(FieldError::invalid(&path.child("port"), port, why));
    }
    let Some(target) = target.filter(|target| !matches!(*target, "" | "/")) else {
        return;
    };
    let mut refuse =
        |why: String| errors.push(FieldError::invalid(&path.child("path"), target, why));
    if target == "//" {
        refuse("segment[0] may not be empty".to_owned());
        return;
    }
    if !target.starts_with('/') {
        refuse("must start with a '/'".to_owned());
    }
    let steps: String = target.chars().skip(1).collect();
    for (index, step) in steps
        .strip_suffix('/')
        .unwrap_or(&steps)
        .split('/')
        .enumerate()
    {
        if step.is_empty() {
            refuse(format!("segment[{index}] may not be empty"));
        } else if let Some(why) = dns1123_subdomain_error(step) {
            refuse(format!("segment[{index}]: {why}"));
        }
    }
}

/// Versions of reviews, of which one at least is known.
pub(crate) fn versions(
    errors: &mut FieldErrors,
    versions: &[String],
    known: &[&str],
    path: &FieldPath,
) {
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if !seen.insert(version) {
            errors.push(FieldError::invalid(
                &path,
                version.as_str(),
                "duplicate version",
            ));
        } else if let Some(why) = dns1035_label_error(version) {
            errors.push(FieldError::invalid(&path, version.as_str(), why));
        }
    }
    if !versions
        .iter()
        .any(|version| known.contains(&version.as_str()))
    {
        let why = format!("must include at least one of {}", known.join(", "));
        errors.push(FieldError::invalid(path, json(versions), why));
    }
}
