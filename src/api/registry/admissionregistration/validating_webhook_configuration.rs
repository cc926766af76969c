//! Validating Webhook Configurations of `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

use crate::{Generation, Permission, Strategy};

/// Objects of kind `ValidatingWebhookConfiguration`.
#[derive(Debug)]
pub struct ValidatingWebhookConfigurations;

impl Strategy for ValidatingWebhookConfigurations {
    type Kind = ValidatingWebhookConfiguration;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Content;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
}
