//! Daemon Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Generation, Strategy, Subresource};
use crate::pod_template::{default_template, default_text};

/// Objects of kind `DaemonSet`.
#[derive(Debug)]
pub struct DaemonSets;

impl Strategy for DaemonSets {
    type Kind = DaemonSet;
    const SHORT_NAMES: &'static [&'static str] = &["ds"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn default(set: &mut DaemonSet) {
        let Some(spec) = &mut set.spec else { return };
        default_template(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        default_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
    }
}
