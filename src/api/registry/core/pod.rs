//! Pods of `v1`.

use apimachinery::FieldErrors;
use k8s_openapi::api::core::v1::{Pod, PodIP, PodStatus};

use super::{pod_cells, pod_preparation, pod_resize, pod_status, pod_update, pod_validation};
use crate::cells;
use crate::pod_template::{default_pod_spec, default_requests_from_limits};
use crate::{
    Column, DeleteAnswer, Generation, SelectableField, StatusMetadata, Strategy, Subresource,
};

/// The address and the first of the addresses are one thing, told twice.
fn one_first_address(status: &mut PodStatus) {
    let first = status
        .pod_ips
        .as_ref()
        .and_then(|addresses| addresses.first())
        .map(|address| address.ip.clone());
    match (
        status.pod_ip.clone().filter(|address| !address.is_empty()),
        first,
    ) {
        (None, Some(first)) => status.pod_ip = Some(first),
        (Some(address), first) if first.as_ref() != Some(&address) => {
            status.pod_ips = Some(vec![PodIP { ip: address }]);
        }
        _ => {}
    }
}

/// Objects of kind `Pod`.
#[derive(Debug)]
pub struct Pods;

impl Strategy for Pods {
    type Kind = Pod;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Ready", |pod, _| pod_cells::readiness(pod).into()),
        Column::text("Status", |pod, _| pod_cells::state(pod).into()),
        Column::text("Restarts", |pod, now| pod_cells::restarts(pod, now).into()),
        Column::age(),
        Column::wide_text("IP", |pod, _| {
            let first = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ips.as_ref()?.first())
                .map(|address| address.ip.as_str());
            cells::text_or(first, cells::NONE)
        }),
        Column::wide_text("Node", |pod, _| {
            cells::text_or(
                pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()),
                cells::NONE,
            )
        }),
        Column::wide_text("Nominated Node", |pod, _| {
            cells::text_or(
                pod.status
                    .as_ref()
                    .and_then(|status| status.nominated_node_name.as_deref()),
                cells::NONE,
            )
        }),
        Column::wide_text("Readiness Gates", |pod, _| {
            pod_cells::readiness_gates(pod).into()
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["po"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Resize,
        Subresource::Status,
    ];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::WithoutOwners;
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
        if let Some(status) = &mut pod.status {
            one_first_address(status);
        }
        let Some(spec) = &mut pod.spec else { return };
        default_requests_from_limits(spec);
        spec.enable_service_links.get_or_insert(true);
        default_pod_spec(spec);
    }

    fn prepare_for_create(pod: &mut Pod) {
        pod_preparation::prepare_new(pod);
    }

    fn prepare_for_status_update(pod: &mut Pod, old: &Pod) {
        pod_preparation::prepare_status(pod, old);
    }

    fn validate(pod: &Pod) -> FieldErrors {
        pod_validation::validate(pod)
    }

    fn validate_create(pod: &Pod) -> FieldErrors {
        pod_validation::validate_new(pod)
    }

    fn validate_update(pod: &Pod, old: &Pod) -> FieldErrors {
        pod_update::validate_update(pod, old)
    }

    fn validate_status_update(pod: &Pod, old: &Pod) -> FieldErrors {
        pod_status::validate_status_update(pod, old)
    }

    fn validate_subresource_update(subresource: Subresource, pod: &Pod, old: &Pod) -> FieldErrors {
        match subresource {
            Subresource::EphemeralContainers => pod_update::validate_ephemeral_containers(pod, old),
            Subresource::Resize => pod_resize::validate_resize(pod, old),
            _ => FieldErrors::none(),
        }
    }

    fn warnings(pod: &Pod) -> Vec<String> {
        pod_validation::warnings(pod)
    }

    /// Pods are updated too often, and rarely by people.
    fn warnings_on_update(_pod: &Pod, _old: &Pod) -> Vec<String> {
        Vec::new()
    }
}
