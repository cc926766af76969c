//! Flow Schemas of `flowcontrol.apiserver.k8s.io/v1`.

use super::mandatory;
use crate::validation::changes::json;
use crate::validation::{found, names, one_of, path, required, text};
use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::flowcontrol::v1::{PolicyRulesWithSubjects, ResourcePolicyRule, Subject};

use crate::cells;
use crate::status::keep_metadata;
use crate::{Column, Generation, StatusMetadata, Strategy, Subresource};

const DEFAULT_PRECEDENCE: i32 = 1000;

/// Objects of kind `FlowSchema`.
#[derive(Debug)]
pub struct FlowSchemas;

impl Strategy for FlowSchemas {
    type Kind = FlowSchema;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("PriorityLevel", |schema, _| {
            schema
                .spec
                .as_ref()
                .map(|spec| spec.priority_level_configuration.name.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::text("MatchingPrecedence", |schema, _| {
            schema
                .spec
                .as_ref()
                .and_then(|spec| spec.matching_precedence)
                .unwrap_or(0)
                .into()
        }),
        Column::text("DistinguisherMethod", |schema, _| {
            match schema
                .spec
                .as_ref()
                .and_then(|spec| spec.distinguisher_method.as_ref())
            {
                Some(method) => method.type_.clone().into(),
                None => cells::NONE.into(),
            }
        }),
        Column::age(),
        Column::text("MissingPL", |schema, _| {
            let conditions = schema
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_deref())
                .unwrap_or_default();
            match conditions
                .iter()
                .find(|condition| condition.type_.as_deref() == Some("Dangling"))
            {
                Some(condition) => condition.status.clone().unwrap_or_default().into(),
                None => "?".into(),
            }
        }),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const GENERATION: Generation = Generation::Spec;

    fn default(schema: &mut FlowSchema) {
        if let Some(spec) = &mut schema.spec
            && spec.matching_precedence.unwrap_or(0) == 0
        {
            spec.matching_precedence = Some(DEFAULT_PRECEDENCE);
        }
    }

    fn prepare_for_status_update(schema: &mut FlowSchema, old: &FlowSchema) {
        keep_metadata(&mut schema.metadata, &old.metadata);
    }

    fn validate(flow: &FlowSchema) -> FieldErrors {
        let spec = flow.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        found(|errors| {
            let precedence = spec.matching_precedence.unwrap_or(0);
            let is_exempt = flow.metadata.name.as_deref() == Some("exempt");
            let mut refuse = |why: &str| {
                errors.push(FieldError::invalid(
                    &path.child("matchingPrecedence"),
                    precedence,
                    why,
                ));
            };
            if precedence <= 0 {
                refuse("must be a positive value");
            }
            if precedence > PRECEDENCE_MAX {
                refuse("must not be greater than 10000");
            }
            if precedence == 1 && !is_exempt {
                refuse("only the schema named 'exempt' may have matchingPrecedence 1");
            }
            if let Some(method) = &spec.distinguisher_method {
                let path = path.child("distinguisherMethod").child("type");
                one_of(errors, &method.type_, &["ByNamespace", "ByUser"], &path);
            }
            let level_path = path.child("priorityLevelConfiguration").child("name");
            match spec.priority_level_configuration.name.as_str() {
                "" => errors.push(FieldError::required(
                    &level_path,
                    "must reference a priority level",
                )),
                name => names::dns_subdomain(errors, name, &level_path),
            }
            for (index, rule) in spec.rules.iter().flatten().enumerate() {
                one_rule(errors, rule, &path.child("rules").index(index));
            }
            let name = flow.metadata.name.as_deref().unwrap_or_default();
            if mandatory::flow_schema(name).is_some_and(|fixed| fixed != spec) {
                let why = format!("spec of '{name}' must equal the fixed value");
                errors.push(FieldError::invalid(&path, json(&spec), why));
            }
            conditions(errors, flow);
        })
    }

    fn validate_status_update(flow: &FlowSchema, _old: &FlowSchema) -> FieldErrors {
        found(|errors| conditions(errors, flow))
    }
}

const PRECEDENCE_MAX: i32 = 10_000;
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

fn one_rule(errors: &mut FieldErrors, rule: &PolicyRulesWithSubjects, path: &FieldPath) {
    if rule.subjects.is_empty() {
        errors.push(FieldError::required(
            &path.child("subjects"),
            "subjects must contain at least one value",
        ));
    }
    for (index, subject) in rule.subjects.iter().enumerate() {
        one_subject(errors, subject, &path.child("subjects").index(index));
    }
    let resource_rules = rule.resource_rules.as_deref().unwrap_or_default();
    let other_rules = rule.non_resource_rules.as_deref().unwrap_or_default();
    if resource_rules.is_empty() && other_rules.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, why));
    }
    for (index, rule) in resource_rules.iter().enumerate() {
        resource_rule(errors, rule, &path.child("resourceRules").index(index));
    }
    for (index, rule) in other_rules.iter().enumerate() {
        let path = path.child("nonResourceRules").index(index);
        verbs(errors, &rule.verbs, &path.child("verbs"));
        let why = "nonResourceURLs must contain at least one value";
        alone(
            errors,
            &rule.non_resource_urls,
            why,
            "non-resource URLs",
            &path.child("nonResourceURLs"),
        );
        let urls = &rule.non_resource_urls;
        if !urls.iter().any(|url| url == "*") {
            for (index, url) in urls.iter().enumerate() {
                non_resource_url(errors, url, &path.child("nonResourceURLs").index(index));
            }
        }
    }
}

fn non_resource_url(errors: &mut FieldErrors, url: &str, path: &FieldPath) {
    let why = if url.is_empty() {
        "must not be empty"
    } else if !url.starts_with('/') {
        "must start with slash"
    } else if url.contains(' ') {
        "must not contain white-space"
    } else if url.contains("//") {
        "must not contain double slash"
    } else if url.strip_suffix("/*").unwrap_or(url).contains('*') {
        "wildcard can only do suffix matching"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, url, why));
}

fn resource_rule(errors: &mut FieldErrors, rule: &ResourcePolicyRule, path: &FieldPath) {
    verbs(errors, &rule.verbs, &path.child("verbs"));
    let why = "resource rules must supply at least one api group";
    alone(
        errors,
        &rule.api_groups,
        why,
        "api groups",
        &path.child("apiGroups"),
    );
    let why = "resource rules must supply at least one resource";
    alone(
        errors,
        &rule.resources,
        why,
        "resources",
        &path.child("resources"),
    );
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    let path = path.child("namespaces");
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(FieldError::required(&path, why));
    } else if !namespaces.is_empty() {
        alone(errors, namespaces, "", "namespaces", &path);
    }
    if namespaces.iter().any(|namespace| namespace == "*") {
        return;
    }
    for (index, namespace) in namespaces.iter().enumerate() {
        if let Some(why) = apimachinery::dns1123_label_error(namespace) {
            let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
            errors.push(FieldError::invalid(
                &path.index(index),
                namespace.as_str(),
                why,
            ));
        }
    }
}

fn conditions(errors: &mut FieldErrors, flow: &FlowSchema) {
    let all = flow
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let kinds = all
        .unwrap_or_default()
        .iter()
        .map(|condition| text(&condition.type_));
    condition_types(errors, kinds);
}

/// Every condition of a status has a type of its own.
pub(super) fn condition_types<'a>(errors: &mut FieldErrors, kinds: impl Iterator<Item = &'a str>) {
    let path = path(&["status", "conditions"]);
    let mut taken = BTreeSet::new();
    for (index, kind) in kinds.enumerate() {
        let path = path.index(index).child("type");
        if !taken.insert(kind) {
            errors.push(FieldError::duplicate(&path, kind));
        }
        required(errors, kind, &path);
    }
}

/// A list that is not empty, with the wildcard alone if at all.
fn alone(errors: &mut FieldErrors, list: &[String], missing: &str, what: &str, path: &FieldPath) {
    if list.is_empty() {
        errors.push(FieldError::required(path, missing));
    } else if list.len() > 1 && list.iter().any(|item| item == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(path, json(list), why));
    }
}

fn verbs(errors: &mut FieldErrors, verbs: &[String], path: &FieldPath) {
    alone(
        errors,
        verbs,
        "verbs must contain at least one value",
        "verbs",
        path,
    );
    let has_wildcard = verbs.iter().any(|verb| verb == "*");
    if !has_wildcard && verbs.iter().any(|verb| !VERBS.contains(&verb.as_str())) {
        errors.push(FieldError::not_supported(path, json(verbs), &VERBS));
    }
}

fn one_subject(errors: &mut FieldErrors, subject: &Subject, path: &FieldPath) {
    let kind = subject.kind.as_str();
    let fields = [
        (
            subject.service_account.is_some(),
            "serviceAccount",
            "ServiceAccount",
        ),
        (subject.user.is_some(), "user", "User"),
        (subject.group.is_some(), "group", "Group"),
    ];
    if !fields.iter().any(|(_, _, known)| *known == kind) {
        one_of(
            errors,
            kind,
            &["Group", "ServiceAccount", "User"],
            &path.child("kind"),
        );
        return;
    }
    for (is_set, field, owner) in fields {
        let path = path.child(field);
        if owner == kind && !is_set {
            errors.push(FieldError::required(
                &path,
                format!("{field} is required when subject kind is '{kind}'"),
            ));
        } else if owner != kind && is_set {
            let why = format!("{field} is forbidden when subject kind is not '{owner}'");
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    if let Some(account) = subject
        .service_account
        .as_ref()
        .filter(|_| kind == "ServiceAccount")
    {
        let path = path.child("serviceAccount");
        match account.name.as_str() {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            "*" => (),
            name => names::dns_subdomain(errors, name, &path.child("name")),
        }
        match account.namespace.as_str() {
            "" => {
                let why = "must specify namespace for service account";
                errors.push(FieldError::required(&path.child("namespace"), why));
            }
            namespace => names::dns_label(errors, namespace, &path.child("namespace")),
        }
    }
    if let Some(user) = subject.user.as_ref().filter(|_| kind == "User") {
        required(errors, &user.name, &path.child("user").child("name"));
    }
    if let Some(group) = subject.group.as_ref().filter(|_| kind == "Group") {
        required(errors, &group.name, &path.child("group").child("name"));
    }
}
