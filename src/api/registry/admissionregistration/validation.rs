//! What webhooks must be. Their expressions are judged where they are compiled.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::validation::changes::json;
use crate::validation::webhooks::{service, url};
use crate::validation::{names, one_of, selectors};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const TIMEOUT_SECONDS_MAX: i32 = 30;
const CONDITIONS_MAX: usize = 64;

/// What webhooks of both kinds have.
pub(crate) struct Webhook<'a> {
    pub(super) name: &'a str,
    pub(super) rules: Option<&'a Vec<RuleWithOperations>>,
    pub(super) failure_policy: Option<&'a str>,
    pub(super) match_policy: Option<&'a str>,
    pub(super) side_effects: &'a str,
    pub(super) timeout_seconds: Option<i32>,
    pub(super) namespace_selector: Option<&'a LabelSelector>,
    pub(super) object_selector: Option<&'a LabelSelector>,
    pub(super) reinvocation_policy: Option<&'a str>,
    pub(super) client_config: &'a WebhookClientConfig,
    pub(super) match_conditions: Option<&'a Vec<MatchCondition>>,
    pub(super) review_versions: &'a [String],
}

pub(super) fn webhooks<'a>(errors: &mut FieldErrors, webhooks: impl Iterator<Item = Webhook<'a>>) {
    let mut taken = BTreeSet::new();
    for (index, webhook) in webhooks.enumerate() {
        let path = FieldPath::new("webhooks").index(index);
        one_webhook(errors, &webhook, &path);
        review_versions(
            errors,
            webhook.review_versions,
            &path.child("admissionReviewVersions"),
        );
        if !webhook.name.is_empty() && !taken.insert(webhook.name) {
            errors.push(FieldError::duplicate(&path.child("name"), webhook.name));
        }
    }
}

fn one_webhook(errors: &mut FieldErrors, webhook: &Webhook<'_>, path: &FieldPath) {
    names::fully_qualified_name(errors, webhook.name, &path.child("name"));
    for (index, rule) in webhook.rules.into_iter().flatten().enumerate() {
        rule_with_operations(errors, rule, &path.child("rules").index(index));
    }
    if let Some(policy) = webhook.failure_policy {
        one_of(
            errors,
            policy,
            &["Fail", "Ignore"],
            &path.child("failurePolicy"),
        );
    }
    if let Some(policy) = webhook.match_policy {
        one_of(
            errors,
            policy,
            &["Equivalent", "Exact"],
            &path.child("matchPolicy"),
        );
    }
    side_effects(errors, webhook.side_effects, &path.child("sideEffects"));
    if let Some(seconds) = webhook
        .timeout_seconds
        .filter(|seconds| !(1..=TIMEOUT_SECONDS_MAX).contains(seconds))
    {
        let why = format!("the timeout value must be between 1 and {TIMEOUT_SECONDS_MAX} seconds");
        errors.push(FieldError::invalid(
            &path.child("timeoutSeconds"),
            seconds,
            why,
        ));
    }
    selectors::label_selector(
        errors,
        webhook.namespace_selector,
        &path.child("namespaceSelector"),
    );
    selectors::label_selector(
        errors,
        webhook.object_selector,
        &path.child("objectSelector"),
    );
    if let Some(policy) = webhook.reinvocation_policy {
        one_of(
            errors,
            policy,
            &["IfNeeded", "Never"],
            &path.child("reinvocationPolicy"),
        );
    }
    client_config(errors, webhook.client_config, &path.child("clientConfig"));
    match_conditions(
        errors,
        webhook.match_conditions,
        &path.child("matchConditions"),
    );
}

fn side_effects(errors: &mut FieldErrors, effects: &str, path: &FieldPath) {
    match effects {
        "" => {
            let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
            errors.push(FieldError::required(path, why));
        }
        effects => one_of(errors, effects, &SIDE_EFFECTS, path),
    }
}

/// A webhook is at one URL or behind one Service.
fn client_config(errors: &mut FieldErrors, config: &WebhookClientConfig, path: &FieldPath) {
    match (&config.url, &config.service) {
        (Some(target), None) => url(errors, target, &path.child("url")),
        (None, Some(target)) => {
            let port = target.port.unwrap_or(0);
            service(
                errors,
                &target.name,
                &target.namespace,
                target.path.as_deref(),
                port,
                &path.child("service"),
            );
        }
        _ => errors.push(FieldError::required(
            path,
            "exactly one of url or service is required",
        )),
    }
}

pub(super) fn match_conditions(
    errors: &mut FieldErrors,
    conditions: Option<&Vec<MatchCondition>>,
    path: &FieldPath,
) {
    let count = conditions.map_or(0, Vec::len);
    if count > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, count, CONDITIONS_MAX));
    }
    let mut taken = BTreeSet::new();
    for (index, condition) in conditions.into_iter().flatten().enumerate() {
        let path = path.index(index);
        if condition.expression.trim().is_empty() {
            errors.push(FieldError::required(&path.child("expression"), ""));
        }
        match condition.name.as_str() {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            name => {
                names::qualified_name(errors, name, &path.child("name"));
                if !taken.insert(name) {
                    errors.push(FieldError::duplicate(&path.child("name"), name));
                }
            }
        }
    }
}

fn review_versions(errors: &mut FieldErrors, versions: &[String], path: &FieldPath) {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.push(FieldError::required(
            path,
            format!("must specify one of {known}"),
        ));
        return;
    }
    crate::validation::webhooks::versions(errors, versions, &REVIEW_VERSIONS, path);
}

fn has_wildcard(list: &[String]) -> bool {
    list.iter().any(|item| item == "*")
}

pub(super) fn rule_with_operations(
    errors: &mut FieldErrors,
    rule: &RuleWithOperations,
    path: &FieldPath,
) {
    let operations = rule.operations.as_deref().unwrap_or_default();
    let operations_path = path.child("operations");
    if operations.is_empty() {
        errors.push(FieldError::required(&operations_path, ""));
    }
    if operations.len() > 1 && has_wildcard(operations) {
        let why = "if '*' is present, must not specify other operations";
        errors.push(FieldError::invalid(&operations_path, json(operations), why));
    }
    for (index, operation) in operations.iter().enumerate() {
        one_of(
            errors,
            operation,
            &OPERATIONS,
            &operations_path.index(index),
        );
    }
    let groups = rule.api_groups.as_deref().unwrap_or_default();
    let versions = rule.api_versions.as_deref().unwrap_or_default();
    for (field, list, what) in [
        ("apiGroups", groups, "API groups"),
        ("apiVersions", versions, "API versions"),
    ] {
        let path = path.child(field);
        if list.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if list.len() > 1 && has_wildcard(list) {
            let why = format!("if '*' is present, must not specify other {what}");
            errors.push(FieldError::invalid(&path, json(list), why));
        }
    }
    for (index, _) in versions
        .iter()
        .enumerate()
        .filter(|(_, version)| version.is_empty())
    {
        errors.push(FieldError::required(
            &path.child("apiVersions").index(index),
            "",
        ));
    }
    resources(
        errors,
        rule.resources.as_deref().unwrap_or_default(),
        &path.child("resources"),
    );
    if let Some(scope) = &rule.scope {
        one_of(
            errors,
            scope,
            &["*", "Cluster", "Namespaced"],
            &path.child("scope"),
        );
    }
}

fn resources(errors: &mut FieldErrors, resources: &[String], path: &FieldPath) {
    if resources.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut whole_resources, mut whole_subresources) = (BTreeSet::new(), BTreeSet::new());
    let mut has_plain = false;
    for (index, both) in resources.iter().enumerate() {
        let path = path.index(index);
        if both.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let Some((resource, subresource)) = both.split_once('/') else {
            has_plain = both != "*";
            continue;
        };
        if whole_resources.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {both}");
            errors.push(FieldError::invalid(&path, both.as_str(), why));
        }
        if whole_subresources.contains(subresource) {
            let why = format!("if '*/{subresource}' is present, must not specify {both}");
            errors.push(FieldError::invalid(&path, both.as_str(), why));
        }
        if subresource == "*" {
            whole_resources.insert(resource);
        }
        if resource == "*" {
            whole_subresources.insert(subresource);
        }
    }
    if resources.len() > 1 && resources.iter().any(|both| both == "*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, json(resources), why));
    }
    if has_wildcard(resources) && has_plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, json(resources), why));
    }
}
