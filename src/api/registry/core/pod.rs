//! Pods of `v1`.

use k8s_openapi::api::core::v1::Pod;

use crate::{DeleteAnswer, Generation, SelectableField, Strategy, Subresource};
use crate::pod_template::{default_pod_spec, default_requests_from_limits};

/// Objects of kind `Pod`.
#[derive(Debug)]
pub struct Pods;

impl Strategy for Pods {
    type Kind = Pod;
    const SHORT_NAMES: &'static [&'static str] = &["po"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Attach, Subresource::Binding, Subresource::EphemeralContainers, Subresource::Eviction, Subresource::Exec, Subresource::Log, Subresource::PortForward, Subresource::Proxy, Subresource::Resize, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("spec.nodeName", &["spec.nodeName"]),
        SelectableField::text("spec.restartPolicy", &["spec.restartPolicy"]),
        SelectableField::text("spec.schedulerName", &["spec.schedulerName"]),
        SelectableField::text("spec.serviceAccountName", &["spec.serviceAccountName"]),
        SelectableField::with_fallback("spec.hostNetwork", &["spec.hostNetwork"], "false"),
        SelectableField::text("status.phase", &["status.phase"]),
        SelectableField::text("status.podIP", &["status.podIP"]),
        SelectableField::text("status.nominatedNodeName", &["status.nominatedNodeName"]),
    ];

    fn default(pod: &mut Pod) {
        let Some(spec) = &mut pod.spec else { return };
        default_requests_from_limits(spec);
        spec.enable_service_links.get_or_insert(true);
        default_pod_spec(spec);
    }
}
