//! Gives each node its share of the cluster's pod addresses. A node keeps its share for as long as it is there; what a node
//! that went had is free again.
//!
//! All nodes are decided on in one turn: two turns side by side could give one share twice.

mod plan;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apimachinery::{ObjectKey, StoredObject};
use controller::{Action, Controller, Event, EventType, Past, Plan, Wakes, regarding};
use env::Timestamp;
use informer::{Cache, Change, Factory};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use serde::Deserialize;
use serde_json::json;

use plan::{Assignment, Claim, assign};
pub use shares::{MaskSizes, NodeCidrs, SharesError};

/// By this annotation a node that comes back under its name asks for the share that its pods have addresses of.
pub const POD_CIDRS_ANNOTATION: &str = "combo.io/pod-cidrs";

pub(crate) struct NodeIpam {
    nodes: Arc<Cache>,
    shares: NodeCidrs,
}

/// What people were told of, so that they are told once: the node's uid and the message.
type Told = BTreeSet<(String, String)>;

pub(crate) struct View {
    assignment: Assignment,
    /// Nodes to tell people of, with the reason and the message.
    news: Vec<(ObjectReference, &'static str, String)>,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
struct Raw {
    metadata: RawMetadata,
    spec: RawSpec,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
struct RawMetadata {
    creation_timestamp: String,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
struct RawSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

impl NodeIpam {
    pub(crate) fn new(factory: &Factory, shares: NodeCidrs) -> Self {
        Self {
            nodes: factory.all::<Node>(),
            shares,
        }
    }
}

fn raw(node: &StoredObject) -> Raw {
    node.decode().unwrap_or_default()
}

fn claim(node: &StoredObject) -> Claim {
    let raw = raw(node);
    let read = |text: &str| text.trim().parse::<IpNet>().ok().map(|range| range.trunc());
    let held = if raw.spec.pod_cidrs.is_empty() && !raw.spec.pod_cidr.is_empty() {
        vec![raw.spec.pod_cidr]
    } else {
        raw.spec.pod_cidrs
    };
    let annotations = &raw.metadata.annotations;
    let asked_for = annotations
        .get(POD_CIDRS_ANNOTATION)
        .map_or("", String::as_str);
    Claim {
        name: node.key().name.clone(),
        since: raw.metadata.creation_timestamp,
        held: held.iter().filter_map(|range| read(range)).collect(),
        asked_for: asked_for.split(',').filter_map(read).collect(),
    }
}

/// A Node is written every few minutes, nearly always without what is of interest here.
fn is_news(change: &Change) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => raw(old) != raw(new),
        _ => true,
    }
}

impl Controller for NodeIpam {
    type View = View;
    type Memory = Told;
    const NAME: &'static str = "node-controller";
    const EVENT_SOURCE: &'static str = "cidrAllocator";
    const CONCURRENT_TURNS: usize = 1;

    fn wakes(&self, on: &mut Wakes) {
        on.mapped(&self.nodes, |change| {
            is_news(change)
                .then(|| ObjectKey::cluster(""))
                .into_iter()
                .collect()
        });
    }

    fn observe(&self, _all: &ObjectKey, past: &mut Past<'_, Told>) -> Option<View> {
        let nodes = self.nodes.list();
        let claims: Vec<Claim> = nodes.iter().map(claim).collect();
        let assignment = assign(&self.shares, &claims);
        let mut told = Told::new();
        let mut news = Vec::new();
        for (name, complaint) in &assignment.complaints {
            let Some(node) = nodes.iter().find(|node| node.key().name == *name) else {
                continue;
            };
            let message = format!("Node {name}: {complaint}");
            let entry = (node.index.uid.clone(), message.clone());
            if !past.memory.contains(&entry) {
                news.push((regarding::<Node>(node), complaint.reason(), message));
            }
            told.insert(entry);
        }
        *past.memory = told;
        Some(View { assignment, news })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let given = view.assignment.given.iter().map(|(name, ranges)| {
            let ranges: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
            let patch = json!({"spec": {"podCIDR": ranges[0], "podCIDRs": ranges}});
            Action::merge::<Node>(ObjectKey::cluster(name.clone()), patch)
        });
        let news = view.news.iter().map(|(regarding, reason, message)| {
            Action::Emit(Event {
                regarding: regarding.clone(),
                event_type: EventType::Warning,
                reason: (*reason).to_owned(),
                message: message.clone(),
            })
        });
        Plan::of(given.chain(news).collect())
    }
}
