//! The node's lease: the cheap heartbeat by which the control plane knows that the node lives.

use k8s_openapi::api::coordination::v1::Lease;
use kube_client::{Client, ClientError};
use serde_json::{Value, json};

use env::Timestamp;

const NAMESPACE: &str = "kube-node-lease";

/// Renews the lease, or makes it. `node_uid`: empty while it is not known.
pub(crate) async fn renew(
    client: &Client,
    node_name: &str,
    node_uid: &str,
    duration_seconds: u64,
    now: Timestamp,
) -> Result<(), ClientError> {
    let api = client.api::<Lease>(NAMESPACE);
    let wanted = lease(node_name, node_uid, duration_seconds, now);
    let spec = json!({"spec": wanted["spec"]});
    match api.patch(node_name, &kube_client::Patch::Merge(spec)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => {
            api.dynamic().create_as::<_, Value>(&wanted).await.map(drop)
        }
        Err(error) => Err(error),
    }
}

fn lease(node_name: &str, node_uid: &str, duration_seconds: u64, now: Timestamp) -> Value {
    let owners = json!([{"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_uid}]);
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node_name, "namespace": NAMESPACE},
        "spec": {
            "holderIdentity": node_name,
            "leaseDurationSeconds": duration_seconds,
            "renewTime": now.to_micros_string()
        }
    });
    if !node_uid.is_empty() {
        lease["metadata"]["ownerReferences"] = owners;
    }
    lease
}
