//! Ports, by number and by name.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::numbers::in_range;
use super::patterns::too_many_characters;

/// Protocols of ports, sorted.
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const NAME_CHARACTERS_MAX: usize = 15;

pub(crate) fn number(errors: &mut FieldErrors, port: i32, path: &FieldPath) {
    in_range(errors, port, 1, 65_535, path);
}

/// RFC 6335, lower case only.
pub(crate) fn name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    let mut refuse = |why: &str| errors.push(FieldError::invalid(path, name, why));
    if name.len() > NAME_CHARACTERS_MAX {
        refuse(&too_many_characters(NAME_CHARACTERS_MAX));
    }
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(is_legal) {
        refuse("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        refuse("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        refuse("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        refuse("must not begin or end with a hyphen");
    }
}

pub(crate) fn number_or_name(errors: &mut FieldErrors, port: &IntOrString, path: &FieldPath) {
    match port {
        IntOrString::Int(port) => number(errors, *port, path),
        IntOrString::String(port) => name(errors, port, path),
    }
}
