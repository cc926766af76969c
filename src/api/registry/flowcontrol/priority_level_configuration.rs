//! Priority Level Configurations of `flowcontrol.apiserver.k8s.io/v1`.

use k8s_openapi::api::flowcontrol::v1::{
    LimitedPriorityLevelConfiguration, PriorityLevelConfiguration, QueuingConfiguration,
};
use serde_json::Value;

use crate::status::keep_metadata;
use crate::{Column, Generation, StatusMetadata, Strategy, Subresource};
use crate::cells;

/// Objects of kind `PriorityLevelConfiguration`.
#[derive(Debug)]
pub struct PriorityLevelConfigurations;

impl Strategy for PriorityLevelConfigurations {
    type Kind = PriorityLevelConfiguration;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Type", |level, _| level.spec.as_ref().map(|spec| spec.type_.clone()).unwrap_or_default().into()),
        Column::text("NominalConcurrencyShares", |level, _| match limited(level) {
            Some(limited) => limited.nominal_concurrency_shares.unwrap_or(0).into(),
            None => cells::NONE.into(),
        }),
        Column::text("Queues", |level, _| queuing(level, |queuing| queuing.queues)),
        Column::text("HandSize", |level, _| queuing(level, |queuing| queuing.hand_size)),
        Column::text("QueueLengthLimit", |level, _| queuing(level, |queuing| queuing.queue_length_limit)),
        Column::age(),
    ];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
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

    fn prepare_for_status_update(level: &mut PriorityLevelConfiguration, old: &PriorityLevelConfiguration) {
        keep_metadata(&mut level.metadata, &old.metadata);
    }
}

fn limited(level: &PriorityLevelConfiguration) -> Option<&LimitedPriorityLevelConfiguration> {
    level.spec.as_ref()?.limited.as_ref()
}

fn queuing(level: &PriorityLevelConfiguration, field: fn(&QueuingConfiguration) -> Option<i32>) -> Value {
    let queuing = limited(level).and_then(|limited| limited.limit_response.as_ref()?.queuing.as_ref());
    queuing.map_or(cells::NONE.into(), |queuing| field(queuing).unwrap_or(0).into())
}
