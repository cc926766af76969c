//! Component Statuses of `v1`.

use k8s_openapi::api::core::v1::ComponentStatus;

use crate::{Strategy, Verbs};

/// Objects of kind `ComponentStatus`.
#[derive(Debug)]
pub struct ComponentStatuses;

impl Strategy for ComponentStatuses {
    type Kind = ComponentStatus;
    const SHORT_NAMES: &'static [&'static str] = &["cs"];
    const VERBS: Verbs = Verbs::GetAndList;
}
