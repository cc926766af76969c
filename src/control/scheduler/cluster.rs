//! Nodes, the pods on them and the pods promised to them, as of the changes taken in so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::ObjectKey;

use crate::node::{NodeFacts, NodeInfo};
use crate::pod::PodInfo;

#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<String, NodeInfo>,
    /// Which node a pod is counted on.
    places: BTreeMap<ObjectKey, Place>,
    /// Pods that wait for a node to be cleared for them.
    nominated: BTreeMap<ObjectKey, (String, Arc<PodInfo>)>,
}

#[derive(Clone, Debug)]
struct Place {
    node: String,
    /// Its binding is under way, so that its own version without a node says nothing.
    is_assumed: bool,
}

impl Cluster {
    /// Nodes that exist, in the order of their names.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Arc<NodeFacts>, &NodeInfo)> {
        self.nodes
            .values()
            .filter_map(|node| Some((node.facts.as_ref()?, node)))
    }

    pub(crate) fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    pub(crate) fn set_node(&mut self, facts: NodeFacts) {
        let name = facts.index.key.name.clone();
        self.nodes.entry(name).or_default().facts = Some(Arc::new(facts));
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.facts = None;
            if node.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// The pod is bound to its node.
    pub(crate) fn set_assigned(&mut self, pod: Arc<PodInfo>) {
        self.place(pod.node_name.clone(), pod, false);
    }

    /// The pod is about to be bound to a node.
    pub(crate) fn assume(&mut self, pod: &PodInfo, node: &str) {
        self.place(
            node.to_owned(),
            Arc::new(PodInfo {
                node_name: node.to_owned(),
                ..pod.clone()
            }),
            true,
        );
    }

    fn place(&mut self, node: String, pod: Arc<PodInfo>, is_assumed: bool) {
        let key = pod.key().clone();
        self.remove_pod(&key);
        self.nodes.entry(node.clone()).or_default().add(pod);
        self.places.insert(key, Place { node, is_assumed });
    }

    pub(crate) fn is_assumed(&self, key: &ObjectKey) -> bool {
        self.places.get(key).is_some_and(|place| place.is_assumed)
    }

    /// The pod is gone, has finished, or could not be bound. True if it was counted somewhere.
    pub(crate) fn remove_pod(&mut self, key: &ObjectKey) -> bool {
        self.nominated.remove(key);
        let Some(place) = self.places.remove(key) else {
            return false;
        };
        if let Some(node) = self.nodes.get_mut(&place.node) {
            node.remove(key);
            if node.pods.is_empty() && node.facts.is_none() {
                self.nodes.remove(&place.node);
            }
        }
        true
    }

    pub(crate) fn nominate(&mut self, pod: Arc<PodInfo>, node: String) {
        if node.is_empty() {
            self.nominated.remove(pod.key());
        } else {
            self.nominated.insert(pod.key().clone(), (node, pod));
        }
    }

    /// Pods other than `pod`, at least as important, that wait for this node.
    pub(crate) fn nominated_on(&self, node: &str, pod: &PodInfo) -> Vec<Arc<PodInfo>> {
        let nominated = self.nominated.values().filter(|(wanted, other)| {
            wanted == node && other.priority >= pod.priority && other.key() != pod.key()
        });
        nominated.map(|(_, pod)| Arc::clone(pod)).collect()
    }

    /// Less important pods that wait for this node.
    pub(crate) fn nominated_below(&self, node: &str, priority: i32) -> Vec<Arc<PodInfo>> {
        let nominated = self
            .nominated
            .values()
            .filter(|(wanted, other)| wanted == node && other.priority < priority);
        nominated.map(|(_, pod)| Arc::clone(pod)).collect()
    }
}
