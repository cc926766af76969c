//! Priority Level Configurations of `flowcontrol.apiserver.k8s.io/v1`.

use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;

use crate::{Generation, Strategy, Subresource};

/// Objects of kind `PriorityLevelConfiguration`.
#[derive(Debug)]
pub struct PriorityLevelConfigurations;

impl Strategy for PriorityLevelConfigurations {
    type Kind = PriorityLevelConfiguration;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn default(level: &mut PriorityLevelConfiguration) {
        let Some(spec) = &mut level.spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        if let Some(limited) = &mut spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(30);
            limited.lendable_percent.get_or_insert(0);
            if let Some(queuing) = limited.limit_response.as_mut().and_then(|response| response.queuing.as_mut()) {
                for (field, value) in
                    [(&mut queuing.queues, 64), (&mut queuing.hand_size, 8), (&mut queuing.queue_length_limit, 50)]
                {
                    if field.unwrap_or(0) == 0 {
                        *field = Some(value);
                    }
                }
            }
        }
    }
}
