//! Kinds of the group `admissionregistration`, one file each.

pub mod mutating_admission_policy;
pub mod mutating_admission_policy_binding;
pub mod mutating_webhook_configuration;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;

use k8s_openapi::api::admissionregistration::v1::MatchResources;

/// How long a webhook may take to answer, by default.
const TIMEOUT_SECONDS: i32 = 10;
const HTTPS_PORT: i32 = 443;

/// Which requests a policy or binding is for, with everything left out filled in.
fn default_match(resources: &mut MatchResources) {
    resources.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    for rule in resources.resource_rules.iter_mut().flatten().chain(resources.exclude_resource_rules.iter_mut().flatten()) {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}
