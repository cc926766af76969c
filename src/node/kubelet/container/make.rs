//! The configuration of one container, put together from its parts.

use std::path::PathBuf;

use cri::{ContainerConfig, ContainerId, Image, Mount};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::config::Config;
use crate::container::Result;
use crate::container::expand::expand;
use crate::container::labels::{container_annotations, container_labels};
use crate::container::resources::container_resources;
use crate::container::security::security_context;

/// What the parts do not say by themselves.
pub(crate) struct Made<'a> {
    pub(crate) attempt: u32,
    pub(crate) image: &'a Image,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) target: Option<ContainerId>,
    /// Bytes of the node.
    pub(crate) memory_capacity: i64,
}

pub(crate) fn container_config(
    pod: &Pod,
    container: &Container,
    made: Made<'_>,
    config: &Config,
) -> Result<ContainerConfig> {
    let reference = made
        .image
        .repo_digests
        .first()
        .unwrap_or(&made.image.id.0)
        .clone();
    let expand_all = |texts: Option<&Vec<String>>| -> Vec<String> {
        let known = |name: &str| {
            made.environment
                .iter()
                .rev()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        texts
            .into_iter()
            .flatten()
            .map(|text| expand(text, known))
            .collect()
    };
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: made.attempt,
        image: container.image.clone().unwrap_or_default(),
        image_id: made.image.id.clone(),
        command: expand_all(container.command.as_ref()),
        args: expand_all(container.args.as_ref()),
        working_dir: container
            .working_dir
            .clone()
            .filter(|path| !path.is_empty()),
        devices: Vec::new(),
        security: security_context(pod, container, made.image, &config.seccomp_profiles)?,
        resources: container_resources(pod, container, made.memory_capacity),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        log_path: PathBuf::from(&container.name).join(format!("{}.log", made.attempt)),
        target_container: made.target,
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.stop_signal.clone()),
        labels: container_labels(pod, container),
        annotations: container_annotations(pod, container, made.attempt, &reference),
        env: made.environment,
        mounts: made.mounts,
    })
}
