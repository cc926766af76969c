//! APIServices of `apiregistration.k8s.io/v1`.

use crate::validation::{found, names, numbers, one_of, path, text};
use apimachinery::NameRule;
use apimachinery::{FieldError, FieldErrors, FieldPath, dns1035_label_error};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIServiceSpec;

use crate::{Column, Permission, StatusMetadata, Strategy, Subresource};

/// Objects of kind `APIService`.
#[derive(Debug)]
pub struct APIServices;

impl Strategy for APIServices {
    type Kind = APIService;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Service", |service, _| {
            match service.spec.as_ref().and_then(|spec| spec.service.as_ref()) {
                Some(target) => format!(
                    "{}/{}",
                    target.namespace.as_deref().unwrap_or_default(),
                    target.name.as_deref().unwrap_or_default()
                )
                .into(),
                None => "Local".into(),
            }
        }),
        Column::text("Available", |service, _| available(service).into()),
        Column::age(),
    ];
    /// `v1.` is the name of the core group's.
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(service: &mut APIService) {
        if let Some(reference) = service.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            reference.port.get_or_insert(443);
        }
    }

    fn validate(service: &APIService) -> FieldErrors {
        let spec = service.spec.clone().unwrap_or_default();
        let (group, version) = (text(&spec.group), text(&spec.version));
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let path = FieldPath::new("spec");
        found(|errors| {
            let expected = format!("{version}.{group}");
            if name != expected {
                let why = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
                errors.push(FieldError::invalid(
                    &crate::validation::path(&["metadata", "name"]),
                    name,
                    why,
                ));
            }
            match group {
                "" if version != "v1" => {
                    let why = "only v1 may have an empty group and it better be legacy kube";
                    errors.push(FieldError::required(&path.child("group"), why));
                }
                "" => (),
                group => names::dns_subdomain(errors, group, &path.child("group")),
            }
            if let Some(why) = dns1035_label_error(version) {
                errors.push(FieldError::invalid(&path.child("version"), version, why));
            }
            let priorities = [
                ("groupPriorityMinimum", spec.group_priority_minimum, 20_000),
                ("versionPriority", spec.version_priority, 1000),
            ];
            for (field, priority, max) in priorities {
                if !(1..=max).contains(&priority) {
                    let why = format!("must be positive and less than {max}");
                    errors.push(FieldError::invalid(&path.child(field), priority, why));
                }
            }
            target(errors, &spec, &path);
        })
    }

    fn validate_status_update(service: &APIService, _old: &APIService) -> FieldErrors {
        let conditions = service
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        found(|errors| {
            for (index, condition) in conditions.enumerate() {
                let path = path(&["status", "conditions"]).index(index).child("status");
                one_of(
                    errors,
                    &condition.status,
                    &["True", "False", "Unknown"],
                    &path,
                );
            }
        })
    }
}

fn available(service: &APIService) -> String {
    let conditions = service
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let Some(condition) = conditions
        .iter()
        .find(|condition| condition.type_ == "Available")
    else {
        return "Unknown".to_owned();
    };
    match condition.reason.as_deref().unwrap_or_default() {
        reason if condition.status != "True" && !reason.is_empty() => {
            format!("{} ({reason})", condition.status)
        }
        _ => condition.status.clone(),
    }
}

fn target(errors: &mut FieldErrors, spec: &APIServiceSpec, path: &FieldPath) {
    let bundle_bytes = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let is_insecure = spec.insecure_skip_tls_verify == Some(true);
    let insecure_path = path.child("insecureSkipTLSVerify");
    let Some(service) = &spec.service else {
        if bundle_bytes > 0 {
            let shown = format!("{bundle_bytes} bytes");
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(&path.child("caBundle"), shown, why));
        }
        if is_insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&insecure_path, true, why));
        }
        return;
    };
    let path = path.child("service");
    for (field, value) in [
        ("namespace", text(&service.namespace)),
        ("name", text(&service.name)),
    ] {
        crate::validation::required(errors, value, &path.child(field));
    }
    let port = service.port.unwrap_or(0);
    if !(1..=65_535).contains(&port) {
        let why = format!("port is not valid: {}", numbers::outside(1, 65_535));
        errors.push(FieldError::invalid(&path.child("port"), port, why));
    }
    if is_insecure && bundle_bytes > 0 {
        errors.push(FieldError::invalid(
            &insecure_path,
            true,
            "may not be true if caBundle is present",
        ));
    }
}
