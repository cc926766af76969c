//! Names of signers: `example.com/name`.

use apimachinery::{
    FieldError, FieldErrors, FieldPath, dns1123_label_error, dns1123_subdomain_error,
};

const DOMAIN_BYTES_MAX: usize = 253;
/// A domain, a slash, a label, a dot and another domain.
const NAME_BYTES_MAX: usize = 571;

/// Whether the signer is one of Kubernetes' own.
pub(crate) fn is_kubernetes_signer(name: &str) -> bool {
    let domain = name.split('/').next().unwrap_or_default();
    domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")
}

pub(crate) fn signer_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, own] = segments.as_slice() else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, name, why));
        return;
    };
    if domain.len() > DOMAIN_BYTES_MAX {
        errors.push(FieldError::too_long(
            path,
            i64::try_from(DOMAIN_BYTES_MAX).unwrap_or(i64::MAX),
        ));
    }
    let mut refuse = |value: &str, why: String| errors.push(FieldError::invalid(path, value, why));
    if let Some((label, why)) = first_refused(domain, dns1123_label_error) {
        refuse(domain, format!("validating label {label:?}: {why}"));
    }
    if !domain.contains('.') {
        refuse(
            domain,
            "should be a domain with at least two segments separated by dots".to_owned(),
        );
    }
    if let Some((label, why)) = first_refused(own, dns1123_subdomain_error) {
        refuse(own, format!("validating label {label:?}: {why}"));
    }
    if name.len() > NAME_BYTES_MAX {
        errors.push(FieldError::too_long(
            path,
            i64::try_from(NAME_BYTES_MAX).unwrap_or(i64::MAX),
        ));
    }
}

fn first_refused(name: &str, check: fn(&str) -> Option<String>) -> Option<(&str, String)> {
    name.split('.')
        .find_map(|label| check(label).map(|why| (label, why)))
}
