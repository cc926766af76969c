//! What rules, bindings and their subjects must be.

use apimachinery::{FieldError, FieldErrors, FieldPath, NameRule};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde_json::json;

use crate::validation::changes::json;
use crate::validation::{one_of, text};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whether a rule or a binding holds in one namespace or everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Namespace,
    Cluster,
}

pub(super) fn rules(errors: &mut FieldErrors, rules: Option<&Vec<PolicyRule>>, reach: Reach) {
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        one_rule(errors, rule, reach, &FieldPath::new("rules").index(index));
    }
}

fn one_rule(errors: &mut FieldErrors, rule: &PolicyRule, reach: Reach, path: &FieldPath) {
    if rule.verbs.is_empty() {
        errors.push(FieldError::required(
            &path.child("verbs"),
            "verbs must contain at least one value",
        ));
    }
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if let Some(urls) = rule
        .non_resource_urls
        .as_ref()
        .filter(|urls| !urls.is_empty())
    {
        let mut refuse = |why: &str| {
            errors.push(FieldError::invalid(
                &path.child("nonResourceURLs"),
                json(urls),
                why,
            ));
        };
        if reach == Reach::Namespace {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if !is_empty(&rule.api_groups)
            || !is_empty(&rule.resources)
            || !is_empty(&rule.resource_names)
        {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if is_empty(&rule.api_groups) {
        let why = "resource rules must supply at least one api group";
        errors.push(FieldError::required(&path.child("apiGroups"), why));
    }
    if is_empty(&rule.resources) {
        errors.push(FieldError::required(
            &path.child("resources"),
            "resource rules must supply at least one resource",
        ));
    }
}

pub(super) fn binding(
    errors: &mut FieldErrors,
    role: &RoleRef,
    subjects: Option<&Vec<Subject>>,
    reach: Reach,
) {
    let path = FieldPath::new("roleRef");
    let kinds: &[&str] = match reach {
        Reach::Namespace => &["Role", "ClusterRole"],
        Reach::Cluster => &["ClusterRole"],
    };
    one_of(
        errors,
        text(&role.api_group),
        &[GROUP],
        &path.child("apiGroup"),
    );
    one_of(errors, &role.kind, kinds, &path.child("kind"));
    path_segment(errors, &role.name, &path.child("name"));
    for (index, subject) in subjects.into_iter().flatten().enumerate() {
        one_subject(
            errors,
            subject,
            reach,
            &FieldPath::new("subjects").index(index),
        );
    }
}

/// What a binding grants never changes: who may bind the new role was not asked.
pub(super) fn same_role(errors: &mut FieldErrors, new: &RoleRef, old: &RoleRef) {
    if new != old {
        let shown = json!({"APIGroup": new.api_group, "Kind": new.kind, "Name": new.name});
        errors.push(FieldError::invalid(
            &FieldPath::new("roleRef"),
            shown,
            "cannot change roleRef",
        ));
    }
}

fn path_segment(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Some(why) = NameRule::PathSegment.error(name) {
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn one_subject(errors: &mut FieldErrors, subject: &Subject, reach: Reach, path: &FieldPath) {
    if subject.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let group = text(&subject.api_group);
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                crate::validation::names::dns_subdomain(errors, &subject.name, &path.child("name"));
            }
            one_of(errors, group, &[""], &path.child("apiGroup"));
            if reach == Reach::Cluster && text(&subject.namespace).is_empty() {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => one_of(errors, group, &[GROUP], &path.child("apiGroup")),
        kind => one_of(
            errors,
            kind,
            &["ServiceAccount", "User", "Group"],
            &path.child("kind"),
        ),
    }
}
