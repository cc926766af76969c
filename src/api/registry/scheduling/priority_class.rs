//! Priority Classes of `scheduling.k8s.io/v1`.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::{Generation, Strategy};

/// Objects of kind `PriorityClass`.
#[derive(Debug)]
pub struct PriorityClasses;

impl Strategy for PriorityClasses {
    type Kind = PriorityClass;
    const SHORT_NAMES: &'static [&'static str] = &["pc"];
    const GENERATION: Generation = Generation::One;

    fn default(class: &mut PriorityClass) {
        class.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }
}
