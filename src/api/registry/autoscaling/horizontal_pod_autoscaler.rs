//! Horizontal Pod Autoscalers of `autoscaling/v2`.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricTarget, ResourceMetricSource};

use crate::{Strategy, Subresource};

const DEFAULT_CPU_PERCENT: i32 = 80;

/// Objects of kind `HorizontalPodAutoscaler`.
#[derive(Debug)]
pub struct HorizontalPodAutoscalers;

impl Strategy for HorizontalPodAutoscalers {
    type Kind = HorizontalPodAutoscaler;
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];

    fn default(scaler: &mut HorizontalPodAutoscaler) {
        let spec = &mut scaler.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            let target = MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(DEFAULT_CPU_PERCENT),
                ..MetricTarget::default()
            };
            let resource = Some(ResourceMetricSource { name: "cpu".to_owned(), target });
            spec.metrics = Some(vec![MetricSpec { type_: "Resource".to_owned(), resource, ..MetricSpec::default() }]);
        }
    }
}
