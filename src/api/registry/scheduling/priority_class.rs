//! Priority Classes of `scheduling.k8s.io/v1`.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::{Column, Generation, Strategy};

/// Objects of kind `PriorityClass`.
#[derive(Debug)]
pub struct PriorityClasses;

impl Strategy for PriorityClasses {
    type Kind = PriorityClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::integer("Value", |class, _| class.value.into()),
        Column::boolean("Global-Default", |class, _| class.global_default.unwrap_or(false).into()),
        Column::age(),
        Column::text("PreemptionPolicy", |class, _| class.preemption_policy.clone().unwrap_or_default().into()),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["pc"];
    const GENERATION: Generation = Generation::One;

    fn default(class: &mut PriorityClass) {
        class.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }
}
