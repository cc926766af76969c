//! What admission policies and their bindings must be, but for their expressions: those are judged where they are compiled.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath, NameRule};
use apimachinery::{dns1035_label_error, dns1123_subdomain_error};
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, MatchResources, MutatingAdmissionPolicySpec, Mutation,
    NamedRuleWithOperations, ParamKind, ParamRef, RuleWithOperations,
    ValidatingAdmissionPolicySpec, Validation, Variable,
};

use super::validation::{match_conditions, rule_with_operations};
use crate::validation::changes::json;
use crate::validation::{names, one_of, required_one_of, selectors, text};

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// What is deleted cannot be changed.
const MUTABLE_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
/// Words of the language of expressions.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

pub(super) fn validating(
    errors: &mut FieldErrors,
    name: &str,
    spec: &ValidatingAdmissionPolicySpec,
) {
    let path = FieldPath::new("spec");
    failure_policy(errors, text(&spec.failure_policy), &path);
    if let Some(kind) = &spec.param_kind {
        param_kind(errors, kind, &path.child("paramKind"));
    }
    match_constraints(errors, spec.match_constraints.as_ref(), &path);
    match_conditions(
        errors,
        spec.match_conditions.as_ref(),
        &path.child("matchConditions"),
    );
    variables(errors, spec.variables.as_ref(), &path.child("variables"));
    let validations = spec.validations.as_deref().unwrap_or_default();
    let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(FieldError::required(&path.child("validations"), why));
        errors.push(FieldError::required(&path.child("auditAnnotations"), why));
        return;
    }
    for (index, validation) in validations.iter().enumerate() {
        one_validation(errors, validation, &path.child("validations").index(index));
    }
    audit_annotations(errors, name, annotations, &path.child("auditAnnotations"));
}

pub(super) fn mutating(errors: &mut FieldErrors, spec: &MutatingAdmissionPolicySpec) {
    let path = FieldPath::new("spec");
    failure_policy(errors, text(&spec.failure_policy), &path);
    if let Some(kind) = &spec.param_kind {
        param_kind(errors, kind, &path.child("paramKind"));
    }
    match_constraints(errors, spec.match_constraints.as_ref(), &path);
    mutable_operations(
        errors,
        spec.match_constraints.as_ref(),
        &path.child("matchConstraints"),
    );
    match_conditions(
        errors,
        spec.match_conditions.as_ref(),
        &path.child("matchConditions"),
    );
    variables(errors, spec.variables.as_ref(), &path.child("variables"));
    let mutations = spec.mutations.as_deref().unwrap_or_default();
    if mutations.is_empty() {
        let why = "mutations must contain at least one item";
        errors.push(FieldError::required(&path.child("mutations"), why));
    }
    for (index, mutation) in mutations.iter().enumerate() {
        one_mutation(errors, mutation, &path.child("mutations").index(index));
    }
    required_one_of(
        errors,
        text(&spec.reinvocation_policy),
        &["IfNeeded", "Never"],
        &path.child("reinvocationPolicy"),
    );
}

/// What bindings of both kinds say.
pub(super) fn binding(
    errors: &mut FieldErrors,
    policy_name: &str,
    reference: Option<&ParamRef>,
    resources: Option<&MatchResources>,
) {
    let path = FieldPath::new("spec");
    let name_path = path.child("policyName");
    if policy_name.is_empty() {
        errors.push(FieldError::required(&name_path, ""));
    } else {
        names::dns_subdomain(errors, policy_name, &name_path);
    }
    if let Some(reference) = reference {
        param_ref(errors, reference, &path.child("paramRef"));
    }
    if let Some(resources) = resources {
        match_resources(errors, resources, &path.child("matchResources"));
    }
}

pub(super) fn validation_actions(errors: &mut FieldErrors, actions: &[String]) {
    let path = FieldPath::new("spec").child("validationActions");
    let mut taken = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        one_of(errors, action, &ACTIONS, &path.index(index));
        if !taken.insert(action.as_str()) {
            errors.push(FieldError::duplicate(&path.index(index), action.as_str()));
        }
    }
    if taken.contains("Deny") && taken.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure \
                   information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(&path, json(actions), why));
    }
    if taken.is_empty() {
        let why = "at least one validation action is required";
        errors.push(FieldError::required(&path, why));
    }
}

pub(super) fn mutable_operations(
    errors: &mut FieldErrors,
    resources: Option<&MatchResources>,
    path: &FieldPath,
) {
    let path = path.child("resourceRules").child("operations");
    let rules = resources
        .into_iter()
        .flat_map(|resources| resources.resource_rules.iter().flatten());
    for operation in rules.flat_map(|rule| rule.operations.iter().flatten()) {
        one_of(errors, operation, &MUTABLE_OPERATIONS, &path);
    }
}

fn failure_policy(errors: &mut FieldErrors, policy: &str, spec: &FieldPath) {
    required_one_of(
        errors,
        policy,
        &FAILURE_POLICIES,
        &spec.child("failurePolicy"),
    );
}

/// A policy is for something: its rules tell the types of what it sees.
fn match_constraints(
    errors: &mut FieldErrors,
    constraints: Option<&MatchResources>,
    spec: &FieldPath,
) {
    let path = spec.child("matchConstraints");
    let Some(constraints) = constraints else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    match_resources(errors, constraints, &path);
    if constraints
        .resource_rules
        .as_ref()
        .is_none_or(Vec::is_empty)
    {
        errors.push(FieldError::required(&path.child("resourceRules"), ""));
    }
}

fn match_resources(errors: &mut FieldErrors, resources: &MatchResources, path: &FieldPath) {
    required_one_of(
        errors,
        text(&resources.match_policy),
        &MATCH_POLICIES,
        &path.child("matchPolicy"),
    );
    for (selector, field) in [
        (&resources.namespace_selector, "namespaceSelector"),
        (&resources.object_selector, "objectSelector"),
    ] {
        if selector.is_none() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
        selectors::label_selector(errors, selector.as_ref(), &path.child(field));
    }
    for (rules, field) in [
        (&resources.resource_rules, "resourceRules"),
        (&resources.exclude_resource_rules, "excludeResourceRules"),
    ] {
        for (index, rule) in rules.iter().flatten().enumerate() {
            named_rule(errors, rule, &path.child(field).index(index));
        }
    }
}

fn named_rule(errors: &mut FieldErrors, rule: &NamedRuleWithOperations, path: &FieldPath) {
    let mut taken = BTreeSet::new();
    for (index, name) in rule.resource_names.iter().flatten().enumerate() {
        let path = path.child("resourceNames").index(index);
        if let Some(why) = NameRule::PathSegment.error(name) {
            errors.push(FieldError::invalid(&path, name.as_str(), why));
        }
        if !taken.insert(name) {
            errors.push(FieldError::duplicate(&path, name.as_str()));
        }
    }
    let rule = RuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    };
    rule_with_operations(errors, &rule, path);
}

fn param_kind(errors: &mut FieldErrors, kind: &ParamKind, path: &FieldPath) {
    let version_path = path.child("apiVersion");
    let api_version = text(&kind.api_version);
    let mut refuse =
        |shown: &str, why: String| errors.push(FieldError::invalid(&version_path, shown, why));
    match api_version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.push(FieldError::required(&version_path, "")),
        ["", ""] => refuse(api_version, "version must be specified".to_owned()),
        parts @ ([_] | [_, _]) => {
            let group = if let [group, _] = parts { group } else { "" };
            if let Some(why) = dns1123_subdomain_error(group).filter(|_| !group.is_empty()) {
                refuse(group, why);
            }
            match parts.last().copied().unwrap_or_default() {
                "" => refuse(api_version, "version must be specified".to_owned()),
                version => {
                    if let Some(why) = dns1035_label_error(version) {
                        refuse(version, why);
                    }
                }
            }
        }
        _ => refuse(
            api_version,
            format!("unexpected GroupVersion string: {api_version}"),
        ),
    }
    let (name, path) = (text(&kind.kind), path.child("kind"));
    if name.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if let Some(why) = dns1035_label_error(&name.to_lowercase()) {
        let why = format!("may have mixed case, but should otherwise match: {why}");
        errors.push(FieldError::invalid(&path, name, why));
    }
}

fn param_ref(errors: &mut FieldErrors, reference: &ParamRef, path: &FieldPath) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let name = text(&reference.name);
    let has_both = !name.is_empty() && reference.selector.is_some();
    if let Some(why) = NameRule::PathSegment
        .error(name)
        .filter(|_| !name.is_empty())
    {
        errors.push(FieldError::invalid(&path.child("name"), name, why));
    }
    if has_both {
        errors.push(FieldError::forbidden(&path.child("name"), EXCLUSIVE));
    }
    selectors::label_selector(errors, reference.selector.as_ref(), &path.child("selector"));
    if has_both {
        errors.push(FieldError::forbidden(&path.child("selector"), EXCLUSIVE));
    }
    if name.is_empty() && reference.selector.is_none() {
        let why = "one of name or selector must be specified";
        errors.push(FieldError::required(path, why));
    }
    required_one_of(
        errors,
        text(&reference.parameter_not_found_action),
        &["Deny", "Allow"],
        &path.child("parameterNotFoundAction"),
    );
}

fn variables(errors: &mut FieldErrors, variables: Option<&Vec<Variable>>, path: &FieldPath) {
    for (index, variable) in variables.into_iter().flatten().enumerate() {
        let (path, name) = (path.index(index), variable.name.as_str());
        if name.trim().is_empty() {
            errors.push(FieldError::required(
                &path.child("name"),
                "name is not specified",
            ));
        } else if !is_identifier(name) {
            let why = "must be a valid CEL identifier";
            errors.push(FieldError::invalid(&path.child("name"), name, why));
        }
        expression(
            errors,
            &variable.expression,
            "expression is not specified",
            &path,
        );
    }
}

fn is_identifier(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.starts_with(|letter: char| letter.is_ascii_digit())
        && name.bytes().all(is_word)
        && !RESERVED.contains(&name)
}

fn expression(errors: &mut FieldErrors, text: &str, missing: &str, path: &FieldPath) {
    if text.trim().is_empty() {
        errors.push(FieldError::required(&path.child("expression"), missing));
    }
}

fn one_validation(errors: &mut FieldErrors, validation: &Validation, path: &FieldPath) {
    expression(
        errors,
        &validation.expression,
        "expression is not specified",
        path,
    );
    for (field, value) in [
        ("messageExpression", text(&validation.message_expression)),
        ("message", text(&validation.message)),
    ] {
        let path = path.child(field);
        if !value.is_empty() && value.trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.push(FieldError::invalid(&path, value, why));
        } else if field == "message" && value.trim().contains(['\n', '\r']) {
            errors.push(FieldError::invalid(
                &path,
                value,
                "must not contain line breaks",
            ));
        }
    }
    if let Some(reason) = &validation.reason {
        one_of(errors, reason, &REASONS, &path.child("reason"));
    }
}

fn audit_annotations(
    errors: &mut FieldErrors,
    policy: &str,
    annotations: &[AuditAnnotation],
    path: &FieldPath,
) {
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(FieldError::invalid(path, json(annotations), why));
    }
    let mut taken = BTreeSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let (path, key) = (path.index(index), annotation.key.as_str());
        if policy.is_empty() {
            let why = "requires metadata.name be non-empty";
            errors.push(FieldError::invalid(&path.child("key"), key, why));
        } else {
            names::qualified_name(errors, &format!("{policy}/{key}"), &path.child("key"));
        }
        let value_path = path.child("valueExpression");
        let value = annotation.value_expression.trim();
        if value.is_empty() {
            let why = "valueExpression is not specified";
            errors.push(FieldError::required(&value_path, why));
        } else if value.len() > ANNOTATION_EXPRESSION_BYTES_MAX {
            let why = format!("must not exceed {ANNOTATION_EXPRESSION_BYTES_MAX} bytes in length");
            errors.push(FieldError::required(&value_path, why));
        }
        if !taken.insert(key) {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
}

/// A mutation is of the one form that its type says.
fn one_mutation(errors: &mut FieldErrors, mutation: &Mutation, path: &FieldPath) {
    let configuration = mutation
        .apply_configuration
        .as_ref()
        .map(|configuration| text(&configuration.expression));
    let patch = mutation
        .json_patch
        .as_ref()
        .map(|patch| text(&patch.expression));
    let kind = mutation.patch_type.as_str();
    let (wanted, wanted_field, other, other_field) = match kind {
        "JSONPatch" => (patch, "jsonPatch", configuration, "applyConfiguration"),
        "ApplyConfiguration" => (configuration, "applyConfiguration", patch, "jsonPatch"),
        _ => {
            let known = ["ApplyConfiguration", "JSONPatch"];
            required_one_of(errors, kind, &known, &path.child("patchType"));
            return;
        }
    };
    match wanted {
        None => {
            let why = format!("must be specified when patchType is {kind}");
            errors.push(FieldError::required(&path.child(wanted_field), why));
        }
        Some(text) => expression(errors, text, "", &path.child(wanted_field)),
    }
    if other.is_some() {
        let why = format!("must not be specified when patchType is {kind}");
        errors.push(FieldError::invalid(
            &path.child(other_field),
            format!("{{{other_field}}}"),
            why,
        ));
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Object;
    use serde_json::{Value, json};

    use crate::Resource;
    use crate::admissionregistration::mutating_admission_policy::MutatingAdmissionPolicies;
    use crate::admissionregistration::validating_admission_policy::ValidatingAdmissionPolicies;
    use crate::admissionregistration::validating_admission_policy_binding::ValidatingAdmissionPolicyBindings;

    fn refused(resource: &dyn Resource, spec: Value) -> Vec<String> {
        let mut object = Object::from_value(json!({"metadata": {"name": "a"}, "spec": spec}))
            .expect("an object");
        object.set_group_version_kind(&resource.description().kind);
        resource.default(&mut object).expect("an object");
        let verdict = resource.check_create(&mut object).expect("a verdict");
        verdict.errors.iter().map(ToString::to_string).collect()
    }

    fn rules() -> Value {
        json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
            "operations": ["CREATE"], "resources": ["deployments"]}]})
    }

    #[test]
    fn a_policy_says_for_what_it_is_and_what_it_wants() {
        let whole = json!({"matchConstraints": rules(), "validations": [{"expression": "true"}]});
        assert_eq!(
            refused(&ValidatingAdmissionPolicies, whole),
            Vec::<String>::new()
        );
        assert_eq!(
            refused(&ValidatingAdmissionPolicies, json!({})),
            [
                "spec.matchConstraints: Required value",
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ]
        );
    }

    #[test]
    fn a_mutation_has_the_form_that_its_type_says() {
        let policy = |mutation: Value| json!({"matchConstraints": rules(), "reinvocationPolicy": "Never", "mutations": [mutation]});
        let patch = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}});
        assert_eq!(
            refused(&MutatingAdmissionPolicies, policy(patch)),
            Vec::<String>::new()
        );
        assert_eq!(
            refused(
                &MutatingAdmissionPolicies,
                policy(json!({"patchType": "JSONPatch"}))
            ),
            [
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch"
            ]
        );
    }

    #[test]
    fn a_binding_does_something() {
        assert_eq!(
            refused(
                &ValidatingAdmissionPolicyBindings,
                json!({"policyName": "p"})
            ),
            ["spec.validationActions: Required value: at least one validation action is required"]
        );
    }
}
