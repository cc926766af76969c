//! A node with the pods on it, and sums kept as pods come and go.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ObjectIndex, ObjectKey, Quantity, StoredObject};
use k8s_openapi::api::core::v1::Taint;
use semantics::node_affinity::NodeLabels;
use semantics::resources::Amounts;
use serde::Deserialize;

use crate::pod::PodInfo;

/// What scheduling reads of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    pub(crate) index: Arc<ObjectIndex>,
    pub(crate) allocatable: Amounts,
    pub(crate) taints: Vec<Taint>,
    pub(crate) is_unschedulable: bool,
    /// Bytes of images that are on the node, by name.
    pub(crate) images: BTreeMap<String, i64>,
}

/// A node and what runs there. Pods may be known before their node is.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeInfo {
    pub(crate) facts: Option<Arc<NodeFacts>>,
    pub(crate) pods: BTreeMap<ObjectKey, Arc<PodInfo>>,
    pub(crate) requested: Amounts,
    /// Millicores and bytes, as nodes are compared.
    pub(crate) weighed: (i64, i64),
}

#[derive(Deserialize)]
struct RawNode<'a> {
    #[serde(default)]
    spec: RawSpec,
    #[serde(borrow, default)]
    status: RawStatus<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStatus<'a> {
    #[serde(borrow)]
    allocatable: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow)]
    images: Vec<RawImage<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawImage<'a> {
    #[serde(borrow, default)]
    names: Vec<Cow<'a, str>>,
    #[serde(default)]
    size_bytes: i64,
}

impl NodeFacts {
    pub(crate) fn of(stored: &StoredObject) -> Option<Self> {
        let raw: RawNode<'_> = stored.view().ok()?;
        let amount = |(name, text): (Cow<'_, str>, Cow<'_, str>)| {
            Some((name.into_owned(), Quantity::parse(&text).ok()?))
        };
        let mut images = BTreeMap::new();
        for image in raw.status.images {
            images.extend(
                image
                    .names
                    .into_iter()
                    .map(|name| (name.into_owned(), image.size_bytes)),
            );
        }
        Some(Self {
            index: Arc::clone(&stored.index),
            allocatable: raw
                .status
                .allocatable
                .into_iter()
                .filter_map(amount)
                .collect(),
            taints: raw.spec.taints,
            is_unschedulable: raw.spec.unschedulable,
            images,
        })
    }

    pub(crate) fn allocatable(&self, resource: &str) -> Quantity {
        self.allocatable
            .get(resource)
            .copied()
            .unwrap_or(Quantity::ZERO)
    }
}

impl NodeLabels for NodeFacts {
    fn name(&self) -> &str {
        &self.index.key.name
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.index.label(key)
    }
}

impl NodeInfo {
    pub(crate) fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(pod.key());
        for (name, amount) in &pod.requests {
            let sum = self
                .requested
                .get(name)
                .map_or(*amount, |known| known.saturating_add(*amount));
            self.requested.insert(name.clone(), sum);
        }
        self.weighed.0 += pod.weighed.0;
        self.weighed.1 += pod.weighed.1;
        self.pods.insert(pod.key().clone(), pod);
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        for (name, amount) in &pod.requests {
            if let Some(sum) = self.requested.get_mut(name) {
                *sum = sum.saturating_sub(*amount);
            }
        }
        self.weighed.0 -= pod.weighed.0;
        self.weighed.1 -= pod.weighed.1;
        Some(pod)
    }

    pub(crate) fn requested(&self, resource: &str) -> Quantity {
        self.requested
            .get(resource)
            .copied()
            .unwrap_or(Quantity::ZERO)
    }
}
