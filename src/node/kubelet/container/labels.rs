//! What the runtime keeps beside a container so that a kubelet without memory knows it again.

use std::collections::BTreeMap;

use cri::ContainerStatus;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pods::facts::{name, namespace, spec, uid};

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
const IMAGE_REFERENCE: &str = "combo.io/image-reference";
pub(crate) const BOOT_ID: &str = "combo.io/boot-id";

pub(crate) fn sandbox_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(POD_NAME.to_owned(), name(pod).to_owned());
    labels.insert(POD_NAMESPACE.to_owned(), namespace(pod).to_owned());
    labels.insert(POD_UID.to_owned(), uid(pod).to_owned());
    labels
}

pub(crate) fn sandbox_annotations(pod: &Pod) -> BTreeMap<String, String> {
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let grace = spec(pod)
        .termination_grace_period_seconds
        .unwrap_or(crate::worker_defaults::GRACE_SECONDS);
    annotations.insert(GRACE_PERIOD.to_owned(), grace.to_string());
    annotations
}

pub(crate) fn container_labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    [
        text(POD_NAME, name(pod)),
        text(POD_NAMESPACE, namespace(pod)),
        text(POD_UID, uid(pod)),
        text(CONTAINER_NAME, &container.name),
    ]
    .into()
}

pub(crate) fn container_annotations(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    image_reference: &str,
) -> BTreeMap<String, String> {
    let grace = spec(pod)
        .termination_grace_period_seconds
        .unwrap_or(crate::worker_defaults::GRACE_SECONDS);
    let mut annotations: BTreeMap<String, String> = [
        (HASH, container_hash(container)),
        (RESTART_COUNT, attempt.to_string()),
        (
            TERMINATION_MESSAGE_PATH,
            container
                .termination_message_path
                .clone()
                .unwrap_or_default(),
        ),
        (
            TERMINATION_MESSAGE_POLICY,
            container
                .termination_message_policy
                .clone()
                .unwrap_or_default(),
        ),
        (GRACE_PERIOD, grace.to_string()),
        (IMAGE_REFERENCE, image_reference.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some(hook) = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref())
    {
        annotations.insert(
            PRE_STOP.to_owned(),
            serde_json::to_string(hook).unwrap_or_default(),
        );
    }
    annotations
}

/// Changes when a running container must be replaced: with its image. Resources change in place. (FNV-1a, 32 bits, of name and image.)
pub(crate) fn container_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:08x}")
}

pub(crate) fn hash_of(status: &ContainerStatus) -> Option<String> {
    status.annotations.get(HASH).cloned()
}

/// The reference `status.imageID` shows.
pub(crate) fn image_reference_of(status: &ContainerStatus) -> String {
    status
        .annotations
        .get(IMAGE_REFERENCE)
        .filter(|text| !text.is_empty())
        .unwrap_or(&status.image_id.0)
        .clone()
}

pub(crate) fn termination_message_path_of(status: &ContainerStatus) -> &str {
    status
        .annotations
        .get(TERMINATION_MESSAGE_PATH)
        .map(String::as_str)
        .unwrap_or_default()
}

/// Whether the last lines of the log stand in for a missing message of a failed container.
pub(crate) fn falls_back_to_logs(status: &ContainerStatus) -> bool {
    status
        .annotations
        .get(TERMINATION_MESSAGE_POLICY)
        .is_some_and(|policy| policy == "FallbackToLogsOnError")
}

/// Grace period of a container whose pod is known no more: seconds.
pub(crate) fn grace_seconds_of(annotations: &BTreeMap<String, String>) -> Option<i64> {
    annotations.get(GRACE_PERIOD)?.parse().ok()
}
