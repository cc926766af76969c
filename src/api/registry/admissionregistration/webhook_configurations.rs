//! What mutating and validating webhook configurations have in common: all but whether a webhook is called again.

use std::marker::PhantomData;

use apimachinery::FieldErrors;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::validation::{self, Webhook};
use crate::validation::found;
use crate::{Column, Generation, Permission, Strategy, Typed};

/// How long a webhook may take to answer, by default.
const TIMEOUT_SECONDS: i32 = 10;
const HTTPS_PORT: i32 = 443;

/// Objects of kind `MutatingWebhookConfiguration`.
pub(crate) type MutatingWebhookConfigurations = WebhookConfigurations<MutatingWebhookConfiguration>;
/// Objects of kind `ValidatingWebhookConfiguration`.
pub(crate) type ValidatingWebhookConfigurations =
    WebhookConfigurations<ValidatingWebhookConfiguration>;

/// Configurations of one of the two kinds.
#[derive(Debug)]
pub(crate) struct WebhookConfigurations<C>(PhantomData<C>);

impl<C> WebhookConfigurations<C> {
    pub(crate) const STRATEGY: Self = Self(PhantomData);
}

/// A kind that lists webhooks.
pub(crate) trait WebhookConfiguration: Typed {
    fn webhooks(&self) -> Vec<Webhook<'_>>;
    fn choices(&mut self) -> Vec<Choices<'_>>;
}

/// What of a webhook may be left out.
pub(crate) struct Choices<'a> {
    failure_policy: &'a mut Option<String>,
    match_policy: &'a mut Option<String>,
    namespace_selector: &'a mut Option<LabelSelector>,
    object_selector: &'a mut Option<LabelSelector>,
    timeout_seconds: &'a mut Option<i32>,
    /// Only webhooks that change objects are called again.
    reinvocation_policy: Option<&'a mut Option<String>>,
    client_config: &'a mut WebhookClientConfig,
    rules: Option<&'a mut Vec<RuleWithOperations>>,
}

impl Choices<'_> {
    fn default(self) {
        let set = |choice: &mut Option<String>, value: &str| {
            choice.get_or_insert_with(|| value.to_owned());
        };
        set(self.failure_policy, "Fail");
        set(self.match_policy, "Equivalent");
        self.namespace_selector.get_or_insert_default();
        self.object_selector.get_or_insert_default();
        self.timeout_seconds.get_or_insert(TIMEOUT_SECONDS);
        if let Some(policy) = self.reinvocation_policy {
            set(policy, "Never");
        }
        if let Some(service) = &mut self.client_config.service {
            service.port.get_or_insert(HTTPS_PORT);
        }
        for rule in self.rules.into_iter().flatten() {
            set(&mut rule.scope, "*");
        }
    }
}

impl<C: WebhookConfiguration> Strategy for WebhookConfigurations<C> {
    type Kind = C;
    const COLUMNS: &'static [Column<C>] = &[
        Column::name(),
        Column::integer("Webhooks", |configuration, _| {
            configuration.webhooks().len().into()
        }),
        Column::age(),
    ];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const GENERATION: Generation = Generation::Content;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(configuration: &mut C) {
        for choices in configuration.choices() {
            choices.default();
        }
    }

    fn validate(configuration: &C) -> FieldErrors {
        found(|errors| validation::webhooks(errors, configuration.webhooks().into_iter()))
    }
}

/// The types of the two kinds' webhooks are different ones, of which one has a field more.
macro_rules! webhook_configuration {
    ($configuration:ty, |$webhook:ident| $policy:expr, $policy_to_choose:expr) => {
        impl WebhookConfiguration for $configuration {
            fn webhooks(&self) -> Vec<Webhook<'_>> {
                let webhooks = self.webhooks.iter().flatten();
                webhooks
                    .map(|$webhook| Webhook {
                        name: &$webhook.name,
                        rules: $webhook.rules.as_ref(),
                        failure_policy: $webhook.failure_policy.as_deref(),
                        match_policy: $webhook.match_policy.as_deref(),
                        side_effects: &$webhook.side_effects,
                        timeout_seconds: $webhook.timeout_seconds,
                        namespace_selector: $webhook.namespace_selector.as_ref(),
                        object_selector: $webhook.object_selector.as_ref(),
                        reinvocation_policy: $policy,
                        client_config: &$webhook.client_config,
                        match_conditions: $webhook.match_conditions.as_ref(),
                        review_versions: &$webhook.admission_review_versions,
                    })
                    .collect()
            }

            fn choices(&mut self) -> Vec<Choices<'_>> {
                let webhooks = self.webhooks.iter_mut().flatten();
                webhooks
                    .map(|$webhook| Choices {
                        failure_policy: &mut $webhook.failure_policy,
                        match_policy: &mut $webhook.match_policy,
                        namespace_selector: &mut $webhook.namespace_selector,
                        object_selector: &mut $webhook.object_selector,
                        timeout_seconds: &mut $webhook.timeout_seconds,
                        reinvocation_policy: $policy_to_choose,
                        client_config: &mut $webhook.client_config,
                        rules: $webhook.rules.as_mut(),
                    })
                    .collect()
            }
        }
    };
}

webhook_configuration!(
    MutatingWebhookConfiguration,
    |webhook| webhook.reinvocation_policy.as_deref(),
    Some(&mut webhook.reinvocation_policy)
);
webhook_configuration!(ValidatingWebhookConfiguration, |webhook| None, None);
