//! What the three plugins about certificate signing requests share: who may speak for a signer.

use apimachinery::Object;
use auth::{Attributes, Authorizer};

use crate::AdmissionRequest;

const GROUP: &str = "certificates.k8s.io";

/// Is the write about this part of a signing request?
pub(crate) fn is_about(request: &AdmissionRequest<'_>, subresource: &str) -> bool {
    request.resource.group == GROUP
        && request.resource.resource == "certificatesigningrequests"
        && request.subresource == subresource
}

pub(crate) fn signer_name(object: &Object) -> String {
    object.text_at(&["spec", "signerName"])
}

/// Whether the user may `verb` for a signer: by its name, or by its whole domain (`example.com/*`).
pub(crate) async fn may(
    authorizer: &dyn Authorizer,
    request: &AdmissionRequest<'_>,
    verb: &str,
    signer: &str,
) -> bool {
    let domain = signer
        .split_once('/')
        .map(|(domain, _)| format!("{domain}/*"));
    for name in [Some(signer.to_owned()), domain].into_iter().flatten() {
        let attributes = Attributes {
            user: request.user.clone(),
            verb: verb.to_owned(),
            api_group: GROUP.to_owned(),
            api_version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        if authorizer.authorize(&attributes).await.is_allowed() {
            return true;
        }
    }
    false
}
