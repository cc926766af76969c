//! APIServices of `apiregistration.k8s.io/v1`.

use apimachinery::NameRule;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::{Column, Permission, StatusMetadata, Strategy, Subresource};

/// Objects of kind `APIService`.
#[derive(Debug)]
pub struct APIServices;

impl Strategy for APIServices {
    type Kind = APIService;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Service", |service, _| match service.spec.as_ref().and_then(|spec| spec.service.as_ref()) {
            Some(target) => {
                format!("{}/{}", target.namespace.as_deref().unwrap_or_default(), target.name.as_deref().unwrap_or_default()).into()
            }
            None => "Local".into(),
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
}

fn available(service: &APIService) -> String {
    let conditions = service.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let Some(condition) = conditions.iter().find(|condition| condition.type_ == "Available") else {
        return "Unknown".to_owned();
    };
    match condition.reason.as_deref().unwrap_or_default() {
        reason if condition.status != "True" && !reason.is_empty() => format!("{} ({reason})", condition.status),
        _ => condition.status.clone(),
    }
}
