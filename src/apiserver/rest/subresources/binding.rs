//! `/binding`: a scheduler puts a pod on a node.

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, GroupResource, GroupVersionKind, Object,
    ObjectKey, Reason,
};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::decode;
use crate::modify::{Part, modify};
use crate::subresources::conditions::set_condition;

pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let options = call.write_options()?;
    let kind = GroupVersionKind::new("", "v1", "Binding");
    let binding = decode::object_of(call, &kind, options.field_validation)?;
    if binding.name() != call.path.name && !binding.name().is_empty() {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    bind(call, &call.key(), &binding).await
}

/// Binds the pod at `key`; the call must be about pods.
pub(crate) async fn bind(
    call: &Call<'_>,
    key: &ObjectKey,
    binding: &Object,
) -> Result<Answer, ApiError> {
    validate(binding)?;
    let options = call.write_options()?;
    let now = call.state.now().to_seconds_string();
    modify(call, key, Part::Placement, &options, |pod| {
        bound(pod, binding, &now)
    })
    .await?;
    Ok(Answer::value(
        201,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        }),
    ))
}

fn validate(binding: &Object) -> Result<(), ApiError> {
    let target = |field: &str| binding.text_at(&["target", field]);
    let path = FieldPath::new("target");
    let mut errors = FieldErrors::none();
    let kind = target("kind");
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported(
            &path.child("kind"),
            kind,
            &["Node", "<empty>"],
        ));
    }
    if target("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Upstream hands these on without making a status of them.
    Err(ApiError::new(500, Reason::Unknown, errors.summary()))
}

fn bound(pod: &Object, binding: &Object, now: &str) -> Result<Object, ApiError> {
    let name = pod.name();
    let about = GroupResource::new("", "pods/binding");
    let refuse = |why: String| Err(ApiError::conflict(&about, name, &why));
    for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (told, real) = (binding.metadata_text(field), pod.metadata_text(field));
        if !told.is_empty() && told != real {
            return Err(ApiError::conflict(
                &GroupResource::new("", "pods"),
                name,
                &format!(
                    "Precondition failed: {what} in precondition: {told}, {what} in object meta: {real}"
                ),
            ));
        }
    }
    if pod.is_being_deleted() {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let node = pod.text_at(&["spec", "nodeName"]);
    if !node.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    if pod
        .at(&["spec", "schedulingGates"])
        .and_then(Value::as_array)
        .is_some_and(|gates| !gates.is_empty())
    {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    pod.set_at(
        &["spec", "nodeName"],
        binding.text_at(&["target", "name"]).into(),
    );
    pod.remove_at(&["status", "nominatedNodeName"]);
    for (key, value) in binding.annotations() {
        pod.set_at(&["metadata", "annotations", key], value.into());
    }
    for (key, value) in binding.labels() {
        pod.set_at(&["metadata", "labels", key], value.into());
    }
    set_condition(
        &mut pod,
        json!({"type": "PodScheduled", "status": "True"}),
        now,
    );
    Ok(pod)
}
