//! What the overlay needs to know of Nodes, and what a node tells of itself.

use super::Backend;
use apimachinery::StoredObject;
use ipnet::IpNet;
use linux::netlink::route::Mac;
use linux::netlink::wireguard::Key;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

const BACKEND: &str = "combo.io/overlay-backend";
const MAC: &str = "combo.io/overlay-mac";
const WIREGUARD_KEY: &str = "combo.io/overlay-wireguard-key";

/// A Node, as far as the overlay is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// When the Node was made; the older of two that claim the same is believed.
    pub(crate) since: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ranges: Vec<IpNet>,
    /// Nothing until the node told.
    pub(crate) offer: Option<Offer>,
}

/// How a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) backend: Backend,
    /// The hardware address in the VXLAN tunnel; nothing where the kernel has no VXLAN.
    pub(crate) mac: Option<Mac>,
    pub(crate) wireguard_key: Option<Key>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeView {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: String,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    addresses: Vec<NodeAddress>,
}

#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl NodeFacts {
    /// What cannot be read is left out: a node that tells nonsense of itself is not reached, and harms nobody else.
    pub(crate) fn of(node: &StoredObject) -> Option<Self> {
        let view: NodeView = node.decode().ok()?;
        let internal = view.status.addresses.iter();
        let internal = internal.filter(|address| address.kind == "InternalIP");
        Some(Self {
            since: view.metadata.creation_timestamp.clone(),
            addresses: internal
                .filter_map(|address| address.address.parse().ok())
                .collect(),
            ranges: view.spec.ranges(),
            offer: Offer::read(&view.metadata.annotations),
        })
    }
}

impl Spec {
    fn ranges(&self) -> Vec<IpNet> {
        let told: Vec<&String> = if self.pod_cidrs.is_empty() {
            vec![&self.pod_cidr]
        } else {
            self.pod_cidrs.iter().collect()
        };
        told.into_iter()
            .filter_map(|range| range.parse().ok())
            .map(|range: IpNet| range.trunc())
            .collect()
    }
}

/// The pod ranges that the cluster gave to a node; empty until it did.
pub fn pod_cidrs_of(node: &StoredObject) -> Vec<IpNet> {
    NodeFacts::of(node)
        .map(|facts| facts.ranges)
        .unwrap_or_default()
}

impl Offer {
    fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            backend: annotations.get(BACKEND)?.parse().ok()?,
            mac: annotations.get(MAC).and_then(|text| read_mac(text)),
            wireguard_key: annotations
                .get(WIREGUARD_KEY)
                .and_then(|text| read_bytes(text)),
        })
    }

    /// The write that lets others know.
    pub(crate) fn patch(&self) -> Value {
        json!({"metadata": {"annotations": {
            BACKEND: self.backend.as_str(),
            MAC: self.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
            WIREGUARD_KEY: self.wireguard_key.map(|key| hexadecimal(&key)),
        }}})
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Only addresses that one machine may have for itself: neither those of groups nor none.
fn read_mac(text: &str) -> Option<Mac> {
    let mac: Mac = read_bytes(&text.replace(':', ""))?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

pub(crate) fn read_bytes<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != 2 * LENGTH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: &Value) -> StoredObject {
        StoredObject::new(value.to_string().into_bytes().into(), 1).unwrap()
    }

    #[test]
    fn what_a_node_tells_is_what_others_read() {
        let offer = Offer {
            backend: Backend::WireGuard,
            mac: Some([2, 0, 0, 0, 0, 9]),
            wireguard_key: Some([7; 32]),
        };
        let mut object = offer.patch();
        object["metadata"]["name"] = "a".into();
        object["spec"]["podCIDRs"] = json!(["10.42.1.0/24", "fd42:1::/64"]);
        object["status"]["addresses"] = json!([
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "a"}]);
        let facts = NodeFacts::of(&node(&object)).unwrap();
        assert_eq!(facts.offer, Some(offer));
        assert_eq!(facts.addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(facts.ranges.len(), 2);
    }

    #[test]
    fn nonsense_is_left_out() {
        let object = json!({"metadata": {"name": "a", "annotations": {
            BACKEND: "vxlan", MAC: "01:00:5e:00:00:01", WIREGUARD_KEY: "zz"}},
            "spec": {"podCIDR": "everything"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "here"}]}});
        let facts = NodeFacts::of(&node(&object)).unwrap();
        let offer = facts.offer.unwrap();
        assert_eq!((offer.mac, offer.wireguard_key), (None, None));
        assert!(facts.addresses.is_empty() && facts.ranges.is_empty());
    }
}
