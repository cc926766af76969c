//! What a CustomResourceDefinition must be, but for its schemas, which `schema` judges.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1035_label_error};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition,
    CustomResourceDefinitionNames, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresources,
};

use crate::validation::changes::{immutable, json};
use crate::validation::{found, names, path, required, required_one_of, text, webhooks};

const APPROVAL: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const DEPRECATION_BYTES_MAX: usize = 256;
const SELECTABLE_FIELDS_MAX: usize = 8;

pub(super) fn validate(definition: &CustomResourceDefinition) -> FieldErrors {
    let spec = &definition.spec;
    let path = FieldPath::new("spec");
    found(|errors| {
        group(errors, &spec.group, &path.child("group"));
        required_one_of(
            errors,
            &spec.scope,
            &["Cluster", "Namespaced"],
            &path.child("scope"),
        );
        all_versions(errors, spec, &path);
        let names_path = path.child("names");
        required(errors, &spec.names.plural, &names_path.child("plural"));
        required(
            errors,
            text(&spec.names.singular),
            &names_path.child("singular"),
        );
        required(errors, &spec.names.kind, &names_path.child("kind"));
        required(
            errors,
            text(&spec.names.list_kind),
            &names_path.child("listKind"),
        );
        all_names(errors, &spec.names, &names_path);
        if let Some(common) = common(spec, |version| version.schema.as_ref()) {
            errors.extend(schema(common, &path.child("validation")));
        }
        if let Some(common) = common(spec, |version| version.subresources.as_ref()) {
            subresources(errors, common, &path.child("subresources"));
        }
        if let Some(common) = common(spec, columns) {
            all_columns(errors, common, &path.child("additionalPrinterColumns"));
        }
        if let Some(conversion) = &spec.conversion {
            one_conversion(
                errors,
                conversion,
                spec.preserve_unknown_fields,
                &path.child("conversion"),
            );
        }
        stored_versions(errors, definition);
    })
}

/// What a new definition must be named, and approved by if its group is Kubernetes' own.
pub(super) fn validate_new(definition: &CustomResourceDefinition) -> FieldErrors {
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    found(|errors| {
        if name != format!("{}.{}", definition.spec.names.plural, definition.spec.group) {
            let why = "must be spec.names.plural+\".\"+spec.group";
            errors.push(FieldError::invalid(&path(&["metadata", "name"]), name, why));
        }
        approval(errors, definition);
        preserves_by_schema(errors, &definition.spec);
    })
}

/// Whole objects that keep what they do not know are of the past.
fn preserves_by_schema(errors: &mut FieldErrors, spec: &CustomResourceDefinitionSpec) {
    if spec.preserve_unknown_fields == Some(true) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(FieldError::invalid(
            &path(&["spec", "preserveUnknownFields"]),
            true,
            why,
        ));
    }
}

pub(super) fn validate_change(
    definition: &CustomResourceDefinition,
    old: &CustomResourceDefinition,
) -> FieldErrors {
    let (new, old_spec) = (&definition.spec, &old.spec);
    let path = FieldPath::new("spec");
    found(|errors| {
        let conditions = old
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let is_established = conditions
            .into_iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True");
        let names_path = path.child("names");
        if is_established {
            immutable(errors, &new.scope, &old_spec.scope, &path.child("scope"));
            immutable(
                errors,
                &new.names.kind,
                &old_spec.names.kind,
                &names_path.child("kind"),
            );
        }
        immutable(errors, &new.group, &old_spec.group, &path.child("group"));
        immutable(
            errors,
            &new.names.plural,
            &old_spec.names.plural,
            &names_path.child("plural"),
        );
        if approval_state(definition) != approval_state(old) {
            approval(errors, definition);
        }
        if old_spec.preserve_unknown_fields != Some(true) {
            preserves_by_schema(errors, new);
        }
    })
}

fn group(errors: &mut FieldErrors, group: &str, path: &FieldPath) {
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let refused = found(|errors| names::dns_subdomain(errors, group, path));
    if refused.is_empty() && !group.contains('.') {
        errors.push(FieldError::invalid(
            path,
            group,
            "should be a domain with at least one dot",
        ));
    }
    errors.extend(refused);
}

/// What all versions say alike: upstream holds it once, so its errors stand at the top.
fn common<'a, T: PartialEq + ?Sized>(
    spec: &'a CustomResourceDefinitionSpec,
    field: fn(&'a CustomResourceDefinitionVersion) -> Option<&'a T>,
) -> Option<&'a T> {
    let first = field(spec.versions.first()?)?;
    spec.versions
        .iter()
        .all(|version| field(version) == Some(first))
        .then_some(first)
}

fn columns(version: &CustomResourceDefinitionVersion) -> Option<&[CustomResourceColumnDefinition]> {
    version
        .additional_printer_columns
        .as_deref()
        .filter(|columns| !columns.is_empty())
}

fn schema(
    validation: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceValidation,
    path: &FieldPath,
) -> FieldErrors {
    validation
        .open_api_v3_schema
        .as_ref()
        .map_or_else(FieldErrors::none, |schema| {
            ::schema::validate_definition(&json(schema), &path.child("openAPIV3Schema"))
        })
}

fn all_versions(errors: &mut FieldErrors, spec: &CustomResourceDefinitionSpec, path: &FieldPath) {
    let path = path.child("versions");
    for (index, version) in spec.versions.iter().enumerate() {
        if version
            .schema
            .as_ref()
            .is_none_or(|schema| schema.open_api_v3_schema.is_none())
        {
            errors.push(FieldError::required(
                &path.index(index).child("schema").child("openAPIV3Schema"),
                "",
            ));
        }
    }
    let has_common_schema = common(spec, |version| version.schema.as_ref()).is_some();
    let has_common_subresources = common(spec, |version| version.subresources.as_ref()).is_some();
    let has_common_columns = common(spec, columns).is_some();
    let mut taken = BTreeSet::new();
    for (index, version) in spec.versions.iter().enumerate() {
        let path = path.index(index);
        taken.insert(&version.name);
        label(errors, &version.name, "", &path.child("name"));
        deprecation(errors, version, &path.child("deprecationWarning"));
        if let Some(validation) = version.schema.as_ref().filter(|_| !has_common_schema) {
            errors.extend(schema(validation, &path.child("schema")));
        }
        if let Some(all) = version
            .subresources
            .as_ref()
            .filter(|_| !has_common_subresources)
        {
            subresources(errors, all, &path.child("subresources"));
        }
        if let Some(all) = columns(version).filter(|_| !has_common_columns) {
            all_columns(errors, all, &path.child("additionalPrinterColumns"));
        }
        selectable_fields(errors, version, &path.child("selectableFields"));
    }
    if taken.len() != spec.versions.len() {
        errors.push(FieldError::invalid(
            &path,
            json(&spec.versions),
            "must contain unique version names",
        ));
    }
    if spec
        .versions
        .iter()
        .filter(|version| version.storage)
        .count()
        != 1
    {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&path, json(&spec.versions), why));
    }
}

fn label(errors: &mut FieldErrors, name: &str, introduction: &str, path: &FieldPath) {
    if let Some(why) =
        dns1035_label_error(&name.to_lowercase()).filter(|_| !introduction.is_empty())
    {
        errors.push(FieldError::invalid(
            path,
            name,
            format!("{introduction}{why}"),
        ));
    } else if let Some(why) = dns1035_label_error(name).filter(|_| introduction.is_empty()) {
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn deprecation(
    errors: &mut FieldErrors,
    version: &CustomResourceDefinitionVersion,
    path: &FieldPath,
) {
    let Some(warning) = &version.deprecation_warning else {
        return;
    };
    let mut refuse = |why: String| errors.push(FieldError::invalid(path, warning.as_str(), why));
    if version.deprecated != Some(true) {
        refuse("can only be set for deprecated versions".to_owned());
        return;
    }
    if warning.len() > DEPRECATION_BYTES_MAX {
        refuse(format!(
            "must be <= {DEPRECATION_BYTES_MAX} characters long"
        ));
    }
    if warning.is_empty() {
        refuse("must not be an empty string".to_owned());
    }
    if let Some((index, _)) = warning
        .char_indices()
        .find(|(_, letter)| letter.is_control())
    {
        refuse(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
}

fn all_names(errors: &mut FieldErrors, names: &CustomResourceDefinitionNames, path: &FieldPath) {
    const MIXED: &str = "may have mixed case, but should otherwise match: ";
    let list_kind = text(&names.list_kind);
    for (field, name, introduction) in [
        ("plural", names.plural.as_str(), ""),
        ("singular", text(&names.singular), ""),
        ("kind", names.kind.as_str(), MIXED),
        ("listKind", list_kind, MIXED),
    ] {
        if !name.is_empty() {
            label(errors, name, introduction, &path.child(field));
        }
    }
    for (index, name) in names.short_names.iter().flatten().enumerate() {
        label(errors, name, "", &path.child("shortNames").index(index));
    }
    if !names.kind.is_empty() && names.kind == list_kind {
        errors.push(FieldError::invalid(
            &path.child("listKind"),
            list_kind,
            "kind and listKind may not be the same",
        ));
    }
    for (index, name) in names.categories.iter().flatten().enumerate() {
        label(errors, name, "", &path.child("categories").index(index));
    }
}

fn all_columns(
    errors: &mut FieldErrors,
    columns: &[CustomResourceColumnDefinition],
    path: &FieldPath,
) {
    for (index, column) in columns.iter().enumerate() {
        let path = path.index(index);
        required(errors, &column.name, &path.child("name"));
        let types = format!("must be one of {}", COLUMN_TYPES.join(","));
        match column.type_.as_str() {
            "" => errors.push(FieldError::required(&path.child("type"), types)),
            kind if !COLUMN_TYPES.contains(&kind) => {
                errors.push(FieldError::invalid(&path.child("type"), kind, types));
            }
            _ => (),
        }
        let format = text(&column.format);
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&path.child("format"), format, why));
        }
        let path = path.child("JSONPath");
        if column.json_path.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            simple_path(errors, &column.json_path, &path);
        }
    }
}

fn simple_path(errors: &mut FieldErrors, target: &str, path: &FieldPath) -> bool {
    let is_simple = target.starts_with('.');
    if !is_simple {
        errors.push(FieldError::invalid(
            path,
            target,
            "must be a simple json path starting with .",
        ));
    }
    is_simple
}

fn subresources(
    errors: &mut FieldErrors,
    subresources: &CustomResourceSubresources,
    path: &FieldPath,
) {
    let Some(scale) = &subresources.scale else {
        return;
    };
    for (field, target, prefix) in [
        ("scale.specReplicasPath", &scale.spec_replicas_path, ".spec"),
        (
            "scale.statusReplicasPath",
            &scale.status_replicas_path,
            ".status",
        ),
    ] {
        let path = path.child(field);
        if target.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if simple_path(errors, target, &path) && !target.starts_with(&format!("{prefix}.")) {
            errors.push(FieldError::invalid(
                &path,
                target.as_str(),
                format!("should be a json path under {prefix}"),
            ));
        }
    }
    let selector = text(&scale.label_selector_path);
    let path = path.child("scale.labelSelectorPath");
    let is_inside = selector.starts_with(".spec.") || selector.starts_with(".status.");
    if !selector.is_empty() && simple_path(errors, selector, &path) && !is_inside {
        let why = "should be a json path under either .spec or .status";
        errors.push(FieldError::invalid(&path, selector, why));
    }
}

fn selectable_fields(
    errors: &mut FieldErrors,
    version: &CustomResourceDefinitionVersion,
    path: &FieldPath,
) {
    let mut taken = BTreeSet::new();
    for (index, field) in version.selectable_fields.iter().flatten().enumerate() {
        let path = path.index(index).child("jsonPath");
        let target = field.json_path.as_str();
        if target.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if target.trim_start_matches('.').split('.').next() == Some("metadata") {
            errors.push(FieldError::invalid(
                &path,
                target,
                "must not point to fields in metadata",
            ));
        }
        if !taken.insert(target) {
            errors.push(FieldError::duplicate(&path, target));
        }
    }
    if taken.len() > SELECTABLE_FIELDS_MAX {
        errors.push(FieldError::too_many(
            path,
            taken.len(),
            SELECTABLE_FIELDS_MAX,
        ));
    }
}

fn one_conversion(
    errors: &mut FieldErrors,
    conversion: &CustomResourceConversion,
    preserves: Option<bool>,
    path: &FieldPath,
) {
    let strategy = conversion.strategy.as_str();
    let strategy_path = path.child("strategy");
    if strategy != "None" && preserves == Some(true) {
        errors.push(FieldError::invalid(
            &strategy_path,
            strategy,
            "must be None if spec.preserveUnknownFields is true",
        ));
    }
    required_one_of(errors, strategy, &["None", "Webhook"], &strategy_path);
    let (client_path, versions_path) = (
        path.child("webhookClientConfig"),
        path.child("conversionReviewVersions"),
    );
    let client = conversion
        .webhook
        .as_ref()
        .and_then(|webhook| webhook.client_config.as_ref());
    let versions = conversion
        .webhook
        .as_ref()
        .map(|webhook| webhook.conversion_review_versions.as_slice());
    let versions = versions.unwrap_or_default();
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(&client_path, why));
        }
        if !versions.is_empty() {
            errors.push(FieldError::forbidden(&versions_path, why));
        }
        return;
    }
    match client.map(|client| (&client.url, &client.service)) {
        None => errors.push(FieldError::required(
            &client_path,
            "required when strategy is set to Webhook",
        )),
        Some((Some(target), None)) => webhooks::url(errors, target, &client_path.child("url")),
        Some((None, Some(service))) => {
            let port = service.port.unwrap_or(443);
            let (target, path) = (service.path.as_deref(), client_path.child("service"));
            webhooks::service(
                errors,
                &service.name,
                &service.namespace,
                target,
                port,
                &path,
            );
        }
        Some(_) => errors.push(FieldError::required(
            &client_path,
            "exactly one of url or service is required",
        )),
    }
    if versions.is_empty() {
        errors.push(FieldError::required(&versions_path, ""));
    } else {
        webhooks::versions(errors, versions, &["v1", "v1beta1"], &versions_path);
    }
}

fn stored_versions(errors: &mut FieldErrors, definition: &CustomResourceDefinition) {
    let stored = definition
        .status
        .as_ref()
        .and_then(|status| status.stored_versions.as_deref())
        .unwrap_or_default();
    let path = path(&["status", "storedVersions"]);
    if stored.is_empty() {
        let shown = definition
            .status
            .as_ref()
            .and_then(|status| status.stored_versions.as_ref());
        errors.push(FieldError::invalid(
            &path,
            json(&shown.filter(|all| !all.is_empty())),
            "must have at least one stored version",
        ));
        return;
    }
    for (index, version) in stored.iter().enumerate() {
        if !definition
            .spec
            .versions
            .iter()
            .any(|served| served.name == *version)
        {
            let why = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {version} and removes {version} from \
                 status.storedVersions"
            );
            errors.push(FieldError::invalid(
                &path.index(index),
                version.as_str(),
                why,
            ));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Approval {
    Missing,
    Invalid,
    Given,
    Bypassed,
}

fn approval_state(definition: &CustomResourceDefinition) -> Approval {
    let annotation = definition
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(APPROVAL));
    match annotation.map(String::as_str) {
        None | Some("") => Approval::Missing,
        Some(reason) if reason.starts_with("unapproved") => Approval::Bypassed,
        Some(url) => match url.split_once("://") {
            Some((scheme, rest))
                if !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/') =>
            {
                Approval::Given
            }
            _ => Approval::Invalid,
        },
    }
}

/// Groups below Kubernetes' own domains are for what its community has reviewed.
fn approval(errors: &mut FieldErrors, definition: &CustomResourceDefinition) {
    const WHERE: &str = "https://github.com/kubernetes/enhancements/pull/1111";
    let group = definition.spec.group.as_str();
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if !is_protected {
        return;
    }
    let path = path(&["metadata", "annotations"]).key(APPROVAL);
    match approval_state(definition) {
        Approval::Missing => {
            let why =
                format!("protected groups must have approval annotation {APPROVAL:?}, see {WHERE}");
            errors.push(FieldError::required(&path, why));
        }
        Approval::Invalid => {
            let value = definition
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(APPROVAL))
                .cloned();
            let why = format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \
                 \"unapproved\", see {WHERE}"
            );
            errors.push(FieldError::invalid(&path, value.unwrap_or_default(), why));
        }
        Approval::Given | Approval::Bypassed => (),
    }
}
