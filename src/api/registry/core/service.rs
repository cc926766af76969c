//! Services of `v1`.

use apimachinery::NameRule;
use k8s_openapi::api::core::v1::Service;

use crate::{DeleteAnswer, Permission, SelectableField, Strategy, Subresource};

/// Objects of kind `Service`.
#[derive(Debug)]
pub struct Services;

impl Strategy for Services {
    type Kind = Service;
    const SHORT_NAMES: &'static [&'static str] = &["svc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const NAME_RULE: NameRule = NameRule::Dns1035Label;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.clusterIP", &["spec.clusterIP"]),
        SelectableField::text("spec.type", &["spec.type"]),
    ];
}
