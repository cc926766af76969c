//! Files of pods that are gone.

use std::path::Path;

use cri::ContainerStatus;
use k8s_openapi::api::core::v1::Pod;

use crate::config::Config;
use crate::logs::container_link_name;
use crate::pods::facts::{name, namespace, uid};
use crate::worker::Observed;

/// Removes logs, links and the pod's directory. What cannot be removed is logged and left: the next start of the kubelet tries again.
pub(crate) fn remove_pod_files(config: &Config, pod: &Pod, observed: &Observed) {
    if let Some(links) = &config.container_logs_directory {
        for container in &observed.containers {
            remove_file(&links.join(container_link_name(
                name(pod),
                namespace(pod),
                &container.name,
                &container.id,
            )));
        }
    }
    remove_directory(&config.pod_log_directory(namespace(pod), name(pod), uid(pod)));
    remove_directory(&config.pod_directory(uid(pod)));
}

/// Removes one container's log with its rotated parts, its link and its termination log.
pub(crate) fn remove_container_logs(config: &Config, pod: &Pod, container: &ContainerStatus) {
    if let Some(links) = &config.container_logs_directory {
        remove_file(&links.join(container_link_name(
            name(pod),
            namespace(pod),
            &container.name,
            &container.id,
        )));
    }
    let directory = config
        .pod_log_directory(namespace(pod), name(pod), uid(pod))
        .join(&container.name);
    let prefix = format!("{}.log", container.attempt);
    let parts = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten();
    for part in parts.filter(|part| part.file_name().to_string_lossy().starts_with(&prefix)) {
        remove_file(&part.path());
    }
    let own = config
        .pod_directory(uid(pod))
        .join("containers")
        .join(&container.name);
    for mount in container
        .mounts
        .iter()
        .filter(|mount| mount.host_path.parent() == Some(&own))
    {
        remove_file(&mount.host_path);
    }
}

pub(crate) fn remove_directory(path: &Path) {
    report(path, std::fs::remove_dir_all(path));
}

pub(crate) fn remove_file(path: &Path) {
    report(path, std::fs::remove_file(path));
}

fn report(path: &Path, result: std::io::Result<()>) {
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "something of a pod that is gone stays behind");
    }
}
