//! Mutating Webhook Configurations of `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;

use crate::{Generation, Permission, Strategy};

/// Objects of kind `MutatingWebhookConfiguration`.
#[derive(Debug)]
pub struct MutatingWebhookConfigurations;

impl Strategy for MutatingWebhookConfigurations {
    type Kind = MutatingWebhookConfiguration;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Content;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
}
