//! The role label of a server's node, which the node may not give itself.

use informer::Factory;
use k8s_openapi::api::core::v1::Node;
use kube_client::{ListRequest, Patch, resource_of};
use rest::ApiServer;
use serde_json::json;

use crate::components::masters_client;
use crate::control_plane::Basics;

const LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Labels the node whenever it is there without the label.
pub(crate) fn keep(api: &ApiServer, node: &str, basics: &Basics) {
    let client = masters_client(api);
    let (node, basics) = (node.to_owned(), basics.clone());
    env::spawn(async move {
        let factory = Factory::new(client.clone(), basics.rng.clone());
        let only = ListRequest {
            resource: resource_of::<Node>(),
            namespace: None,
            label_selector: String::new(),
            field_selector: format!("metadata.name={node}"),
        };
        let changes = factory.cache(only).subscribe();
        let nodes = client.dynamic(resource_of::<Node>(), "");
        loop {
            let change = tokio::select! {
                biased;
                () = basics.shutdown.requested() => return,
                change = changes.next() => change,
            };
            let labelled = change.latest().index.label(LABEL).is_some();
            if !labelled && changes.cache().get(change.key()).is_some() {
                let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: "true"}}}));
                if let Err(error) = nodes.patch(&node, &patch).await {
                    tracing::warn!(%error, "the node's role is not labelled");
                }
            }
        }
    });
}
