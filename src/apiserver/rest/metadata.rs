//! The rules that all metadata obeys, whatever the kind; texts are those of upstream's `ValidateObjectMeta`.

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, GroupVersion, Object, annotation_errors,
    dns1123_label_error, in_order, label_errors, qualified_name_errors,
};
use env::{Rng, Timestamp};
use registry::Description;
use serde_json::Value;

/// What the server alone decides about a new object.
pub(crate) fn stamp_new(object: &mut Object, rng: &dyn Rng, now: Timestamp) {
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        object.metadata_mut().remove(field);
    }
    object.set_metadata_text("creationTimestamp", now.to_seconds_string());
    object.set_metadata_text("uid", rng.uuid());
}

/// The namespace of an object is that of the request.
pub(crate) fn match_namespace(object: &mut Object, namespace: &str) -> Result<(), ApiError> {
    match object.namespace() {
        "" => object.set_metadata_text("namespace", namespace),
        told if told == namespace => {}
        _ => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// The name of an object is that of the request.
pub(crate) fn match_name(object: &mut Object, name: &str) -> Result<(), ApiError> {
    match object.name() {
        "" => object.set_metadata_text("name", name),
        told if told == name => {}
        told => {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({told}) does not match the name on the URL ({name})"
            )));
        }
    }
    Ok(())
}

/// Carries over what an update cannot change.
pub(crate) fn keep_from_old(object: &mut Object, old: &Object) {
    object.set_generation(old.generation());
    if old.generation() == 0 {
        object.metadata_mut().remove("generation");
    }
    if object.uid().is_empty() {
        object.set_metadata_text("uid", old.uid());
    }
    copy(object, old, "creationTimestamp");
    if old.is_being_deleted() {
        copy(object, old, "deletionTimestamp");
        if old
            .at(&["metadata", "deletionGracePeriodSeconds"])
            .is_some()
            && object
                .at(&["metadata", "deletionGracePeriodSeconds"])
                .is_none()
        {
            copy(object, old, "deletionGracePeriodSeconds");
        }
    }
    copy(object, old, "selfLink");
}

pub(crate) fn copy(object: &mut Object, old: &Object, field: &str) {
    match old.metadata().and_then(|metadata| metadata.get(field)) {
        Some(value) => {
            let value = value.clone();
            object.metadata_mut().insert(field.to_owned(), value);
        }
        None => {
            object.metadata_mut().remove(field);
        }
    }
}

/// Errors of a new object's metadata.
pub(crate) fn validate(object: &Object, description: &Description) -> FieldErrors {
    let path = FieldPath::new("metadata");
    let mut errors = FieldErrors::none();
    let generate_name = object.metadata_text("generateName");
    if !generate_name.is_empty() {
        // The base ends where a letter will follow.
        let with_letter = format!(
            "{}a",
            generate_name
                .strip_suffix('-')
                .map_or(generate_name, |base| base)
        );
        if let Some(why) = description.name_rule.error(&with_letter) {
            errors.push(FieldError::invalid(
                &path.child("generateName"),
                generate_name,
                why,
            ));
        }
    }
    match object.name() {
        "" => errors.push(FieldError::required(
            &path.child("name"),
            "name or generateName is required",
        )),
        name => {
            if let Some(why) = description.name_rule.error(name) {
                errors.push(FieldError::invalid(&path.child("name"), name, why));
            }
        }
    }
    namespace(object, description, &path, &mut errors);
    if object.generation() < 0 {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            object.generation(),
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(label_errors(object.labels(), &path.child("labels")));
    errors.extend(annotation_errors(
        object.annotations(),
        &path.child("annotations"),
    ));
    owners(object, &path.child("ownerReferences"), &mut errors);
    finalizers(object, &path.child("finalizers"), &mut errors);
    if !matches!(
        description.kind.group.as_ref(),
        "apiextensions.k8s.io" | "apiregistration.k8s.io"
    ) && schema::built_in(
        &description.kind.group,
        &description.kind.version,
        &description.kind.kind,
    )
    .is_some()
    {
        standard_finalizers(object, &path.child("finalizers"), &mut errors);
    }
    errors
}

/// Finalizers of built-in kinds without a domain are Kubernetes' own.
fn standard_finalizers(object: &Object, path: &FieldPath, errors: &mut FieldErrors) {
    for (at, finalizer) in object.finalizers().into_iter().enumerate() {
        let path = path.index(at);
        errors.extend(
            qualified_name_errors(finalizer)
                .into_iter()
                .map(|why| FieldError::invalid(&path, finalizer, why)),
        );
        if !finalizer.contains('/')
            && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion")
        {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path, finalizer, why));
        }
    }
}

fn namespace(
    object: &Object,
    description: &Description,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let path = path.child("namespace");
    match (description.is_namespaced(), object.namespace()) {
        (true, "") => errors.push(FieldError::required(&path, "")),
        (true, namespace) => {
            if let Some(why) = dns1123_label_error(namespace) {
                errors.push(FieldError::invalid(&path, namespace, why));
            }
        }
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(&path, "not allowed on this type")),
    }
}

fn owners(object: &Object, path: &FieldPath, errors: &mut FieldErrors) {
    let mut controller: Option<String> = None;
    for owner in object.owner_references() {
        let version = GroupVersion::parse(&owner.api_version);
        if version.version.is_empty() {
            errors.push(FieldError::invalid(
                &path.child("apiVersion"),
                owner.api_version.clone(),
                "version must not be empty",
            ));
        }
        for (field, value) in [
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                errors.push(FieldError::invalid(
                    &path.child(field),
                    "",
                    "must not be empty",
                ));
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            let value = serde_json::to_value(&owner).unwrap_or(Value::Null);
            errors.push(FieldError::invalid(
                path,
                value,
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.controller == Some(true) {
            let name = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                None => controller = Some(name),
                Some(first) => {
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    );
                    errors.push(
                        FieldError::invalid(path, Value::Null, why)
                            .shown_as(owners_in_order(object)),
                    );
                }
            }
        }
    }
}

/// The owners as Go prints them.
fn owners_in_order(object: &Object) -> String {
    const FIELDS: [&str; 6] = [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ];
    let all = object
        .at(&["metadata", "ownerReferences"])
        .and_then(Value::as_array);
    let owner = |owner: &Value| {
        let fields: Vec<(&str, Value)> = FIELDS
            .iter()
            .filter_map(|&field| Some((field, owner.get(field)?.clone())))
            .collect();
        in_order(&fields)
    };
    let owners: Vec<String> = all.into_iter().flatten().map(owner).collect();
    format!("[{}]", owners.join(","))
}

fn finalizers(object: &Object, path: &FieldPath, errors: &mut FieldErrors) {
    let finalizers = object.finalizers();
    for finalizer in &finalizers {
        errors.extend(
            qualified_name_errors(finalizer)
                .into_iter()
                .map(|why| FieldError::invalid(path, *finalizer, why)),
        );
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let all: Vec<Value> = finalizers
            .iter()
            .map(|&finalizer| finalizer.into())
            .collect();
        errors.push(FieldError::invalid(
            path,
            all,
            "finalizer foregroundDeletion and orphan cannot be both set",
        ));
    }
}

/// Errors of a changed object's metadata, besides those of [`validate`].
pub(crate) fn validate_update(object: &Object, old: &Object) -> FieldErrors {
    let path = FieldPath::new("metadata");
    let mut errors = FieldErrors::none();
    if old.is_being_deleted() {
        let known = old.finalizers();
        let mut added: Vec<&str> = object
            .finalizers()
            .into_iter()
            .filter(|finalizer| !known.contains(finalizer))
            .collect();
        added.sort_unstable();
        if !added.is_empty() {
            let list = added
                .iter()
                .map(|finalizer| format!("{finalizer:?}"))
                .collect::<Vec<_>>()
                .join(", ");
            errors.push(FieldError::forbidden(&path.child("finalizers"), format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            )));
        }
    }
    if object.resource_version().is_empty() {
        errors.push(FieldError::invalid(
            &path.child("resourceVersion"),
            "",
            "must be specified for an update",
        ));
    }
    for field in ["name", "namespace", "uid"] {
        if object.metadata_text(field) != old.metadata_text(field) {
            errors.push(FieldError::invalid(
                &path.child(field),
                object.metadata_text(field),
                "field is immutable",
            ));
        }
    }
    let immutable = [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in immutable {
        let (new, old) = (
            object.at(&["metadata", field]),
            old.at(&["metadata", field]),
        );
        if new != old {
            let value = new.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(
                &path.child(field),
                value,
                "field is immutable",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_being_deleted_takes_no_new_finalizer() {
        let object = |finalizers: &[&str]| {
            Object::from_value(
                serde_json::json!({"metadata": {"name": "a", "resourceVersion": "1",
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers}}),
            )
            .expect("an object")
        };
        assert!(validate_update(&object(&["a.b/c"]), &object(&["a.b/c", "d.e/f"])).is_empty());
        let errors = validate_update(&object(&["a.b/c"]), &object(&[]));
        assert_eq!(
            errors.summary(),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{\"a.b/c\"}"
        );
    }
}
