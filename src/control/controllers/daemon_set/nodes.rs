//! Which nodes a daemon's pods belong on, and what a pod needs to run there.

use std::sync::Arc;

use apimachinery::{Object, ObjectIndex, StoredObject};
use k8s_openapi::api::core::v1::{PodSpec, Taint, Toleration};
use semantics::node_affinity::{NodeLabels, required_matches};
use semantics::taints::{
    DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NO_EXECUTE, NO_SCHEDULE, NOT_READY,
    PID_PRESSURE, UNREACHABLE, UNSCHEDULABLE, first_untolerated,
};
use serde_json::{Value, json};

use crate::taint_eviction::NodeTaints;

#[derive(Clone, Debug)]
pub(crate) struct DaemonNode {
    index: Arc<ObjectIndex>,
    taints: Vec<Taint>,
}

// Heartbeats change nothing here.
impl PartialEq for DaemonNode {
    fn eq(&self, other: &Self) -> bool {
        self.index.key == other.index.key
            && self.index.labels == other.index.labels
            && self.taints == other.taints
    }
}

impl NodeLabels for DaemonNode {
    fn name(&self) -> &str {
        &self.index.key.name
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.index.label(key)
    }
}

impl DaemonNode {
    pub(super) fn of(stored: &StoredObject) -> Option<Self> {
        let mut taints = stored.decode::<NodeTaints>().ok()?.spec;
        if taints.unschedulable {
            taints.taints.push(taint(UNSCHEDULABLE, NO_SCHEDULE));
        }
        Some(Self {
            index: Arc::clone(&stored.index),
            taints: taints.taints,
        })
    }
}

fn taint(key: &str, effect: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        ..Taint::default()
    }
}

/// Does a daemon's pod belong on a node?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    Yes,
    /// None is started there, but one that runs may stay.
    OnlyIfThere,
    No,
}

/// The parts of a pod template that choose nodes, as the daemon's pods have them.
pub(super) struct Fit {
    spec: PodSpec,
    tolerations: Vec<Toleration>,
}

impl Fit {
    pub(super) fn of(template: &Value) -> Self {
        let spec = template.get("spec").unwrap_or(&Value::Null);
        let spec: PodSpec = apimachinery::from_tree(spec).unwrap_or_default();
        let mut tolerations = spec.tolerations.clone().unwrap_or_default();
        tolerations.extend(own_tolerations(spec.host_network == Some(true)));
        Self { spec, tolerations }
    }

    pub(super) fn belongs(&self, node: &DaemonNode) -> Belongs {
        let is_named = self
            .spec
            .node_name
            .as_ref()
            .is_none_or(|name| name.is_empty() || name == node.name());
        if !is_named || !required_matches(&self.spec, node) {
            return Belongs::No;
        }
        if first_untolerated(&node.taints, &self.tolerations, &[NO_SCHEDULE, NO_EXECUTE]).is_none()
        {
            return Belongs::Yes;
        }
        match first_untolerated(&node.taints, &self.tolerations, &[NO_EXECUTE]) {
            Some(_) => Belongs::No,
            None => Belongs::OnlyIfThere,
        }
    }
}

/// A daemon runs on nodes that others avoid: it may be what brings them back.
fn own_tolerations(uses_host_network: bool) -> Vec<Toleration> {
    let mut all = vec![
        (NOT_READY, NO_EXECUTE),
        (UNREACHABLE, NO_EXECUTE),
        (DISK_PRESSURE, NO_SCHEDULE),
        (MEMORY_PRESSURE, NO_SCHEDULE),
        (PID_PRESSURE, NO_SCHEDULE),
        (UNSCHEDULABLE, NO_SCHEDULE),
    ];
    if uses_host_network {
        all.push((NETWORK_UNAVAILABLE, NO_SCHEDULE));
    }
    let toleration = |(key, effect): (&str, &str)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    all.into_iter().map(toleration).collect()
}

const REQUIRED: [&str; 4] = [
    "spec",
    "affinity",
    "nodeAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
];

/// Gives the pod the daemon's tolerations and ties it to a node, through the scheduler.
pub(super) fn assign(pod: &mut Object, node: &str) {
    let uses_host_network = pod.at(&["spec", "hostNetwork"]) == Some(&Value::Bool(true));
    let mut tolerations = pod
        .at(&["spec", "tolerations"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for toleration in own_tolerations(uses_host_network) {
        let toleration = serde_json::to_value(toleration).unwrap_or_default();
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    pod.set_at(&["spec", "tolerations"], tolerations.into());
    let by_name = json!([{"key": "metadata.name", "operator": "In", "values": [node]}]);
    let terms = pod
        .at(&REQUIRED)
        .and_then(|required| required["nodeSelectorTerms"].as_array())
        .cloned();
    let mut terms = terms
        .filter(|terms| !terms.is_empty())
        .unwrap_or_else(|| vec![json!({})]);
    for term in &mut terms {
        term["matchFields"] = by_name.clone();
    }
    pod.set_at(&REQUIRED, json!({"nodeSelectorTerms": terms}));
}
