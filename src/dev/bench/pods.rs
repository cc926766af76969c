//! Pods of the sample workload on chosen nodes.

use linux::NetworkNamespace;
use serde_json::json;

use super::load::Connection;
use super::machines::IMAGE;
use super::process;
use super::wait::{START_MAX, is_ready, until};

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// A pod that is Ready.
pub(crate) struct Pod {
    pub(crate) network: NetworkNamespace,
    pub(crate) address: String,
}

impl Pod {
    /// Starts a pod, with the label `app` of its name.
    pub(crate) async fn start(
        connection: &Connection,
        name: &str,
        node: &str,
    ) -> anyhow::Result<Self> {
        create(connection, name, node).await?;
        let path = format!("{PODS}/{name}");
        until(&format!("the pod {name} is Ready"), START_MAX, || async {
            is_ready(&connection.get_json(&path).await.unwrap_or_default())
        })
        .await?;
        let pod = connection.get_json(&path).await?;
        let text = |pointer: &str| pod.pointer(pointer).and_then(|text| text.as_str());
        Ok(Self {
            network: process::network_of_pod(text("/metadata/uid").unwrap_or_default())?,
            address: text("/status/podIP").unwrap_or_default().to_owned(),
        })
    }
}

/// Creates a pod, and waits for nothing.
pub(crate) async fn create(connection: &Connection, name: &str, node: &str) -> anyhow::Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{
            "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
        }]},
    });
    connection.create(PODS, &pod).await
}
