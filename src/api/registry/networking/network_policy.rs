//! Network Policies of `networking.k8s.io/v1`.

use super::network_policy_validation;
use apimachinery::FieldErrors;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::cells;
use crate::{Column, Generation, Strategy};

/// Objects of kind `NetworkPolicy`.
#[derive(Debug)]
pub struct NetworkPolicies;

impl Strategy for NetworkPolicies {
    type Kind = NetworkPolicy;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Pod-Selector", |policy, _| {
            match policy
                .spec
                .as_ref()
                .and_then(|spec| spec.pod_selector.as_ref())
            {
                Some(selector) => cells::selector(Some(selector)),
                None => cells::NONE.into(),
            }
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["netpol"];
    const GENERATION: Generation = Generation::Spec;

    fn default(policy: &mut NetworkPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let egress = spec
                .egress
                .as_ref()
                .is_some_and(|rules| !rules.is_empty())
                .then(|| "Egress".to_owned());
            spec.policy_types = Some(
                std::iter::once("Ingress".to_owned())
                    .chain(egress)
                    .collect(),
            );
        }
        let ingress = spec
            .ingress
            .iter_mut()
            .flatten()
            .filter_map(|rule| rule.ports.as_mut());
        let egress = spec
            .egress
            .iter_mut()
            .flatten()
            .filter_map(|rule| rule.ports.as_mut());
        for port in ingress.chain(egress).flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate_create(policy: &NetworkPolicy) -> FieldErrors {
        network_policy_validation::validate(policy, None)
    }

    fn validate_update(policy: &NetworkPolicy, old: &NetworkPolicy) -> FieldErrors {
        network_policy_validation::validate(policy, Some(old))
    }
}
