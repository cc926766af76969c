//! Limit Ranges of `v1`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LimitRange;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Permission, Strategy};

/// Objects of kind `LimitRange`.
#[derive(Debug)]
pub struct LimitRanges;

impl Strategy for LimitRanges {
    type Kind = LimitRange;
    const SHORT_NAMES: &'static [&'static str] = &["limits"];
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn default(range: &mut LimitRange) {
        for limit in range.spec.iter_mut().flat_map(|spec| spec.limits.iter_mut()).filter(|limit| limit.type_ == "Container") {
            let fill = |target: &mut Option<BTreeMap<String, Quantity>>, source: &Option<BTreeMap<String, Quantity>>| {
                for (name, amount) in source.iter().flatten() {
                    target.get_or_insert_default().entry(name.clone()).or_insert_with(|| amount.clone());
                }
            };
            fill(&mut limit.default, &limit.max);
            fill(&mut limit.default_request, &limit.default);
            fill(&mut limit.default_request, &limit.min);
        }
    }
}
