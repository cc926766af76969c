//! `/pods`, and finding a container that a path names.

use cri::{ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::kubelet::Kubelet;
use crate::pods::PodHandle;
use crate::server::route::{ContainerPath, PodPath};
use crate::worker::Observed;

/// Why something named in a path is not there: HTTP status and text.
pub(crate) type NotThere = (http::StatusCode, String);

/// The pods of this node as a `PodList`.
pub(crate) fn list(kubelet: &Kubelet) -> Value {
    let pods = kubelet
        .services
        .pods_table
        .all()
        .into_iter()
        .filter_map(|handle| handle.pod());
    let items: Vec<Value> = pods
        .filter_map(|pod| apimachinery::to_tree(&pod).ok())
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

impl Kubelet {
    pub(crate) fn find_pod(&self, path: &PodPath) -> Result<(PodHandle, Pod), NotThere> {
        let key = apimachinery::ObjectKey::namespaced(path.namespace.clone(), path.name.clone());
        let found = match &path.uid {
            Some(uid) => self
                .services
                .pods_table
                .get(uid)
                .or_else(|| self.services.pods_table.find(&key)),
            None => self.services.pods_table.find(&key),
        };
        let missing = || {
            (
                http::StatusCode::NOT_FOUND,
                format!("pod {:?} does not exist", path.name),
            )
        };
        let handle = found.ok_or_else(missing)?;
        let pod = handle.pod().ok_or_else(missing)?;
        Ok((handle, pod))
    }

    pub(crate) async fn observe(&self, pod: &Pod) -> Result<Observed, NotThere> {
        let observed =
            Observed::read(self.services.runtime.as_ref(), crate::pods::facts::uid(pod)).await;
        observed.map_err(|error| (http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// The running container a path names.
    pub(crate) async fn find_running(
        &self,
        path: &ContainerPath,
    ) -> Result<(Pod, ContainerStatus), NotThere> {
        let (_, pod) = self.find_pod(&path.pod)?;
        let observed = self.observe(&pod).await?;
        let newest = observed.newest(&path.container).cloned();
        match newest {
            Some(container) if matches!(container.state, ContainerState::Running { .. }) => {
                Ok((pod, container))
            }
            Some(_) => Err((
                http::StatusCode::INTERNAL_SERVER_ERROR,
                format!("container {:?} is not running", path.container),
            )),
            None => Err((
                http::StatusCode::NOT_FOUND,
                format!("container not found (\"{}\")", path.container),
            )),
        }
    }
}
