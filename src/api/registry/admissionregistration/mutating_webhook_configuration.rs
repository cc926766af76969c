//! Mutating Webhook Configurations of `admissionregistration.k8s.io/v1`.

use super::validation::{self, Webhook};
use crate::validation::found;
use apimachinery::FieldErrors;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;

use super::{HTTPS_PORT, TIMEOUT_SECONDS};
use crate::{Column, Generation, Permission, Strategy};

/// Objects of kind `MutatingWebhookConfiguration`.
#[derive(Debug)]
pub struct MutatingWebhookConfigurations;

impl Strategy for MutatingWebhookConfigurations {
    type Kind = MutatingWebhookConfiguration;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Webhooks", |configuration, _| {
            configuration.webhooks.as_ref().map_or(0, Vec::len).into()
        }),
        Column::age(),
    ];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Content;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(configuration: &mut MutatingWebhookConfiguration) {
        for webhook in configuration.webhooks.iter_mut().flatten() {
            webhook
                .failure_policy
                .get_or_insert_with(|| "Fail".to_owned());
            webhook
                .match_policy
                .get_or_insert_with(|| "Equivalent".to_owned());
            webhook.namespace_selector.get_or_insert_default();
            webhook.object_selector.get_or_insert_default();
            webhook.timeout_seconds.get_or_insert(TIMEOUT_SECONDS);
            webhook
                .reinvocation_policy
                .get_or_insert_with(|| "Never".to_owned());
            if let Some(service) = &mut webhook.client_config.service {
                service.port.get_or_insert(HTTPS_PORT);
            }
            for rule in webhook.rules.iter_mut().flatten() {
                rule.scope.get_or_insert_with(|| "*".to_owned());
            }
        }
    }

    fn validate(configuration: &MutatingWebhookConfiguration) -> FieldErrors {
        let webhooks = configuration
            .webhooks
            .iter()
            .flatten()
            .map(|webhook| Webhook {
                name: &webhook.name,
                rules: webhook.rules.as_ref(),
                failure_policy: webhook.failure_policy.as_deref(),
                match_policy: webhook.match_policy.as_deref(),
                side_effects: &webhook.side_effects,
                timeout_seconds: webhook.timeout_seconds,
                namespace_selector: webhook.namespace_selector.as_ref(),
                object_selector: webhook.object_selector.as_ref(),
                reinvocation_policy: webhook.reinvocation_policy.as_deref(),
                client_config: &webhook.client_config,
                match_conditions: webhook.match_conditions.as_ref(),
                review_versions: &webhook.admission_review_versions,
            });
        found(|errors| validation::webhooks(errors, webhooks))
    }
}
