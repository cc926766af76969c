//! Resource Quotas of `v1`.

use k8s_openapi::api::core::v1::ResourceQuota;

use crate::{Column, DeleteAnswer, Strategy, Subresource};

/// Objects of kind `ResourceQuota`.
#[derive(Debug)]
pub struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    type Kind = ResourceQuota;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Request", |quota, _| amounts(quota, |name| !name.starts_with("limits.")).into()),
        Column::text("Limit", |quota, _| amounts(quota, |name| name.starts_with("limits.")).into()),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["quota"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
}

/// `used/hard` of the chosen resources.
fn amounts(quota: &ResourceQuota, chosen: fn(&str) -> bool) -> String {
    let Some(status) = &quota.status else { return String::new() };
    let used = |name: &String| status.used.as_ref().and_then(|used| used.get(name)).map_or("0", |amount| amount.0.as_str());
    let hard = status.hard.iter().flatten().filter(|(name, _)| chosen(name));
    let pairs: Vec<String> = hard.map(|(name, amount)| format!("{name}: {}/{}", used(name), amount.0)).collect();
    pairs.join(", ")
}
