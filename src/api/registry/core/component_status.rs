//! Component Statuses of `v1`.

use k8s_openapi::api::core::v1::ComponentStatus;

use crate::{Column, Strategy, Verbs};

/// Objects of kind `ComponentStatus`.
#[derive(Debug)]
pub struct ComponentStatuses;

impl Strategy for ComponentStatuses {
    type Kind = ComponentStatus;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Status", |status, _| match healthy(status) {
            Some(condition) if condition.status == "True" => "Healthy".into(),
            Some(_) => "Unhealthy".into(),
            None => "Unknown".into(),
        }),
        Column::text("Message", |status, _| {
            healthy(status)
                .and_then(|condition| condition.message.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::text("Error", |status, _| {
            healthy(status)
                .and_then(|condition| condition.error.clone())
                .unwrap_or_default()
                .into()
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["cs"];
    const VERBS: Verbs = Verbs::GetAndList;
}

fn healthy(status: &ComponentStatus) -> Option<&k8s_openapi::api::core::v1::ComponentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Healthy")
}
