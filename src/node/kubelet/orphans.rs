//! What earlier kubelets left of pods that nobody wants any more.

use std::path::Path;

use apimachinery::StoredObject;
use cri::PodSandbox;
use serde_json::json;

use crate::cleanup::{remove_directory, remove_file};
use crate::container::labels::grace_seconds_of;
use crate::pods::{Origin, Wanted};
use crate::services::Services;

/// A pod made of what its sandbox tells: enough to end it in order.
pub(crate) fn as_wanted(sandbox: &PodSandbox) -> Result<Wanted, serde_json::Error> {
    let grace =
        grace_seconds_of(&sandbox.annotations).unwrap_or(crate::worker_defaults::GRACE_SECONDS);
    let pod = json!({
        "metadata": {"uid": sandbox.pod.uid, "name": sandbox.pod.name, "namespace": sandbox.pod.namespace},
        "spec": {"containers": [], "terminationGracePeriodSeconds": grace}
    });
    let object = StoredObject::new(pod.to_string().into_bytes().into(), 0)?;
    Ok(Wanted {
        object,
        origin: Origin::Api,
        mirror: None,
    })
}

/// Removes directories with volumes, logs and links of pods that have no worker.
pub(crate) async fn remove_files(services: &Services) {
    let is_known = |uid: &str| services.pods_table.get(uid).is_some();
    match services.volumes.existing() {
        Ok(uids) => {
            for uid in uids.iter().filter(|uid| !is_known(uid)) {
                if let Err(error) = services.volumes.tear_down(uid).await {
                    tracing::warn!(uid, %error, "volumes of a pod that is gone stay behind");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "the volumes do not tell which pods they have"),
    }
    for name in entries(&services.config.pod_logs_directory) {
        let uid = name.rsplit('_').next().unwrap_or_default();
        if name.split('_').count() == 3 && !is_known(uid) {
            remove_directory(&services.config.pod_logs_directory.join(&name));
        }
    }
    if let Some(links) = &services.config.container_logs_directory {
        let dangling = entries(links)
            .into_iter()
            .map(|name| links.join(name))
            .filter(|link| link.is_symlink() && !link.exists());
        dangling.for_each(|link| remove_file(&link));
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let all = std::fs::read_dir(directory).into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
