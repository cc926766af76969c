//! A node whose address a person said keeps it, and says so while the machine does not have it.

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::{ObjectKey, StoredObject};
use controller::{Event, EventRecorder, EventType, regarding};
use informer::Cache;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;

/// Tells of each time that the address is missing, and that it is back, for as long as the node lives.
pub(crate) async fn tell(
    mut missing: watch::Receiver<Option<IpAddr>>,
    nodes: Arc<Cache>,
    events: Arc<EventRecorder>,
    node_name: String,
) {
    let own = ObjectKey::cluster(node_name);
    let mut before = None;
    loop {
        let now = *missing.borrow_and_update();
        if let Some((event_type, reason, message)) = notice(before, now) {
            tracing::warn!("{message}");
            let node = known(&nodes, &own).await;
            events.emit(Event {
                regarding: regarding::<Node>(&node),
                event_type,
                reason: reason.to_owned(),
                message,
            });
        }
        before = now;
        if missing.changed().await.is_err() {
            return;
        }
    }
}

fn notice(
    before: Option<IpAddr>,
    now: Option<IpAddr>,
) -> Option<(EventType, &'static str, String)> {
    match (before, now) {
        (_, Some(address)) => {
            let message = format!(
                "This machine has no address {address}, which --node-ip says: the node keeps it and is not reached there. Give the machine this address, or change or drop --node-ip"
            );
            Some((EventType::Warning, "NodeAddressMissing", message))
        }
        (Some(address), None) => {
            let message = format!("This machine has the address {address} of --node-ip again");
            Some((EventType::Normal, "NodeAddressPresent", message))
        }
        (None, None) => None,
    }
}

/// The node's Node, once there is one.
async fn known(nodes: &Arc<Cache>, own: &ObjectKey) -> StoredObject {
    let changes = nodes.subscribe();
    loop {
        if let Some(node) = nodes.get(own) {
            return node;
        }
        changes.next().await;
    }
}
