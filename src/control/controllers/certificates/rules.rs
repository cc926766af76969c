//! What each signer signs, in upstream's words where it refuses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::CertificateRequest;

use super::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY};

/// The request in a CSR object's base64 field.
pub(super) fn read(field: &str) -> Result<CertificateRequest, String> {
    let pem = STANDARD.decode(field).map_err(|error| error.to_string())?;
    let pem = String::from_utf8(pem).map_err(|error| error.to_string())?;
    CertificateRequest::from_pem(&pem).map_err(|error| error.to_string())
}

/// Why the signer of this name does not sign it.
pub(super) fn refusal(
    signer: &str,
    request: &CertificateRequest,
    usages: &[String],
) -> Option<String> {
    match signer {
        KUBELET_CLIENT => kubelet_client(request, usages),
        KUBELET_SERVING => kubelet_serving(request, usages),
        CLIENT => client(usages),
        LEGACY => None,
        other => Some(format!("unrecognized signerName: {other:?}")),
    }
}

pub(super) fn kubelet_client(request: &CertificateRequest, usages: &[String]) -> Option<String> {
    let subject = is_node(request);
    subject.or_else(|| {
        let refused = [
            (
                !request.dns_names.is_empty(),
                "DNS subjectAltNames are not allowed",
            ),
            (
                request.other_names > 0,
                "Email subjectAltNames are not allowed",
            ),
            (
                !request.addresses.is_empty(),
                "IP subjectAltNames are not allowed",
            ),
        ];
        let refused = refused.into_iter().find(|(is_refused, _)| *is_refused);
        refused
            .map(|(_, why)| why.to_owned())
            .or_else(|| exactly(usages, "client auth"))
    })
}

pub(super) fn kubelet_serving(request: &CertificateRequest, usages: &[String]) -> Option<String> {
    is_node(request).or_else(|| {
        if request.dns_names.is_empty() && request.addresses.is_empty() {
            return Some("DNS or IP subjectAltName is required".to_owned());
        }
        if request.other_names > 0 {
            return Some("Email subjectAltNames are not allowed".to_owned());
        }
        exactly(usages, "server auth")
    })
}

fn is_node(request: &CertificateRequest) -> Option<String> {
    if request.subject.organizations != ["system:nodes"] {
        return Some("subject organization is not system:nodes".to_owned());
    }
    let is_named = request.subject.common_name.starts_with("system:node:");
    (!is_named).then(|| "subject common name does not begin with system:node:".to_owned())
}

/// `digital signature`, the given usage, and `key encipherment` if the key's kind wants it.
fn exactly(usages: &[String], wanted: &str) -> Option<String> {
    let has = |usage: &str| usages.iter().any(|known| known == usage);
    let is_known = |usage: &String| {
        ["key encipherment", "digital signature", wanted].contains(&usage.as_str())
    };
    let fits = has("digital signature") && has(wanted) && usages.iter().all(is_known);
    (!fits).then(|| {
        let mut names = ["digital signature", "key encipherment", wanted];
        names.sort_unstable();
        format!("usages did not match [{}]", names.join(" "))
    })
}

fn client(usages: &[String]) -> Option<String> {
    let is_known = |usage: &&String| {
        matches!(
            usage.as_str(),
            "client auth" | "digital signature" | "key encipherment"
        )
    };
    if let Some(other) = usages.iter().find(|usage| !is_known(usage)) {
        return Some(format!("invalid usage for client certificate: {other}"));
    }
    let has_client = usages.iter().any(|usage| usage == "client auth");
    (!has_client).then(|| "missing required usage for client certificate: client auth".to_owned())
}
