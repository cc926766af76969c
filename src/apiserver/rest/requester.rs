//! What of an object only the server knows: who asked for it.

use apimachinery::Object;
use serde_json::json;

use crate::call::Call;

/// A signing request carries the identity of its maker, whatever the maker wrote there.
pub(crate) fn stamp(call: &Call<'_>, object: &mut Object) {
    let kind = &call.served.description.kind;
    if kind.kind != "CertificateSigningRequest" || kind.group != "certificates.k8s.io" {
        return;
    }
    let user = call.user();
    for field in ["username", "uid", "groups", "extra"] {
        object.remove_at(&["spec", field]);
    }
    object.set_at(&["spec", "username"], user.name.clone().into());
    if !user.uid.is_empty() {
        object.set_at(&["spec", "uid"], user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        object.set_at(&["spec", "groups"], user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        object.set_at(&["spec", "extra"], json!(user.extra));
    }
}
