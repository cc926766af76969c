//! Files of pods that are gone.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use crate::config::Config;
use crate::logs::container_link_name;
use crate::pods::facts::{name, namespace, uid};
use crate::worker::Observed;

/// Removes logs, links and the pod's directory. What cannot be removed is logged and left: the next start of the kubelet tries again.
pub(crate) fn remove_pod_files(config: &Config, pod: &Pod, observed: &Observed) {
    if let Some(links) = &config.container_logs_directory {
        for container in &observed.containers {
            remove_file(&links.join(container_link_name(name(pod), namespace(pod), &container.name, &container.id)));
        }
    }
    remove_directory(&config.pod_log_directory(namespace(pod), name(pod), uid(pod)));
    remove_directory(&config.pod_directory(uid(pod)));
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
