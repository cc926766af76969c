//! What of a new object only the server knows: who asked for it, and when.

use apimachinery::Object;
use serde_json::json;

use crate::call::Call;

pub(crate) fn stamp(call: &Call<'_>, object: &mut Object) {
    let kind = &call.served.description.kind;
    match (kind.group.as_ref(), kind.kind.as_ref()) {
        ("certificates.k8s.io", "CertificateSigningRequest") => stamp_request(call, object),
        ("apiregistration.k8s.io", "APIService") => stamp_local_service(call, object),
        _ => {}
    }
}

/// What this server answers itself is there from the first moment.
fn stamp_local_service(call: &Call<'_>, object: &mut Object) {
    if object
        .at(&["spec", "service"])
        .is_some_and(|service| !service.is_null())
    {
        return;
    }
    let available = json!([{"type": "Available", "status": "True", "reason": "Local",
        "message": "Local APIServices are always available", "lastTransitionTime": call.state.now().to_seconds_string()}]);
    object.set_at(&["status", "conditions"], available);
}

/// A signing request carries the identity of its maker, whatever the maker wrote there.
fn stamp_request(call: &Call<'_>, object: &mut Object) {
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
