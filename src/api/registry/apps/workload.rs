//! What workloads have in common: a selector that matches their template, pods that are always restarted, counts in their status.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_label_error};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::pod_template::validation::template_spec;
use crate::validation::numbers::non_negative;
use crate::validation::{changes, one_of, selectors, text};

/// Labels of a template, as errors show them.
pub(crate) fn template_labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.as_ref())
}

/// The selector must be there, and valid, and select something.
pub(super) fn required_selector(
    errors: &mut FieldErrors,
    selector: &LabelSelector,
    kind: &str,
    path: &FieldPath,
) {
    let path = path.child("selector");
    // A missing selector and an empty one look alike here; upstream refuses both, the missing one as required.
    if *selector == LabelSelector::default() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    selectors::label_selector(errors, Some(selector), &path);
    if selectors::is_empty(selector) {
        let why = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid(&path, changes::json(selector), why));
    }
}

/// What a selector looks like to its template.
pub(crate) enum Match {
    Yes,
    No,
    /// The selector cannot be read.
    Unknown,
}

pub(crate) fn matches(
    selector: Option<&LabelSelector>,
    labels: Option<&BTreeMap<String, String>>,
) -> Match {
    match semantics::selectors::label_selector(selector) {
        Ok(selector) => {
            let matched = selector.matches_with(|key| {
                labels
                    .and_then(|labels| labels.get(key))
                    .map(String::as_str)
            });
            if matched { Match::Yes } else { Match::No }
        }
        Err(_) => Match::Unknown,
    }
}

pub(crate) fn does_not_match(
    errors: &mut FieldErrors,
    template: &PodTemplateSpec,
    path: &FieldPath,
) {
    let path = path.child("metadata").child("labels");
    let shown = changes::json(&template_labels(template));
    errors.push(FieldError::invalid(
        &path,
        shown,
        "`selector` does not match template `labels`",
    ));
}

/// The template of replica sets and deployments.
pub(super) fn replicated_template(
    errors: &mut FieldErrors,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    path: &FieldPath,
) {
    let is_missing = *selector == LabelSelector::default();
    match matches(Some(selector), template_labels(template)) {
        Match::Unknown => {
            let why = "invalid label selector";
            errors.push(FieldError::invalid(
                &path.child("selector"),
                changes::json(selector),
                why,
            ));
            return;
        }
        Match::No if !selectors::is_empty(selector) => {
            does_not_match(errors, template, &path.child("template"));
        }
        // A missing selector selects nothing, which is not the same as being empty.
        _ if is_missing => does_not_match(errors, template, &path.child("template")),
        _ => {}
    }
    template_spec(errors, template, &path.child("template"));
    always_restarted(errors, template, "ReplicaSet", &path.child("template"));
}

pub(crate) fn always_restarted(
    errors: &mut FieldErrors,
    template: &PodTemplateSpec,
    kind: &str,
    path: &FieldPath,
) {
    let policy = template
        .spec
        .as_ref()
        .map_or("", |spec| text(&spec.restart_policy));
    one_of(
        errors,
        policy,
        &["Always"],
        &path.child("spec").child("restartPolicy"),
    );
    if template
        .spec
        .as_ref()
        .is_some_and(|spec| spec.active_deadline_seconds.is_some())
    {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(
            &path.child("spec").child("activeDeadlineSeconds"),
            why,
        ));
    }
}

/// Counts of a status: each with the field it stands in.
pub(crate) fn counts(errors: &mut FieldErrors, counts: &[(Option<i64>, &str)], path: &FieldPath) {
    for (count, field) in counts {
        non_negative(errors, count.unwrap_or(0), &path.child(field));
    }
}

/// No part of the replicas is more than all of them.
pub(crate) fn within_replicas(
    errors: &mut FieldErrors,
    replicas: i32,
    parts: &[(Option<i32>, &str)],
    path: &FieldPath,
) {
    for (part, field) in parts {
        let part = part.unwrap_or(0);
        if part > replicas {
            errors.push(FieldError::invalid(
                &path.child(field),
                part,
                "cannot be greater than status.replicas",
            ));
        }
    }
}

pub(crate) fn available_within_ready(
    errors: &mut FieldErrors,
    available: Option<i32>,
    ready: Option<i32>,
    ready_field: &str,
    path: &FieldPath,
) {
    let available = available.unwrap_or(0);
    if available > ready.unwrap_or(0) {
        let why = format!("cannot be greater than {ready_field}");
        errors.push(FieldError::invalid(
            &path.child("availableReplicas"),
            available,
            why,
        ));
    }
}

/// Collisions are counted, never forgotten.
pub(super) fn collisions(
    errors: &mut FieldErrors,
    new: Option<i32>,
    old: Option<i32>,
    path: &FieldPath,
) {
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        errors.push(FieldError::invalid(
            &path.child("collisionCount"),
            new.unwrap_or(0),
            "cannot be decremented",
        ));
    }
}

/// What upstream says about names that become names of hosts.
pub(crate) fn host_name_warning(metadata: &ObjectMeta, used_in: &str) -> Option<String> {
    let why = dns1123_label_error(metadata.name.as_deref()?)?;
    Some(format!(
        "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{why}]"
    ))
}
