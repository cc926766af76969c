//! What happens in a cluster, and which rules it may make let a pod pass.

use crate::node::NodeFacts;
use crate::plugins::Plugin;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    NodeAdded,
    NodeAllocatable,
    NodeLabels,
    NodeTaints,
    /// A pod left its node, or needs less of it.
    PodGone,
    /// A pod came to a node, or changed its labels there.
    PodPlaced,
    Volume,
}

impl Happening {
    pub(crate) fn may_help(self, plugin: Plugin) -> bool {
        use Happening::{
            NodeAdded, NodeAllocatable, NodeLabels, NodeTaints, PodGone, PodPlaced, Volume,
        };
        match plugin {
            Plugin::NodeUnschedulable | Plugin::TaintToleration => {
                matches!(self, NodeAdded | NodeTaints)
            }
            Plugin::NodeAffinity => matches!(self, NodeAdded | NodeLabels),
            Plugin::NodePorts => matches!(self, NodeAdded | PodGone),
            Plugin::NodeResourcesFit => matches!(self, NodeAdded | NodeAllocatable | PodGone),
            Plugin::VolumeRestrictions => matches!(self, PodGone | Volume),
            Plugin::VolumeBinding => matches!(self, NodeAdded | NodeLabels | Volume),
            Plugin::PodTopologySpread => {
                matches!(
                    self,
                    NodeAdded | NodeLabels | NodeTaints | PodGone | PodPlaced
                )
            }
            Plugin::InterPodAffinity => {
                matches!(self, NodeAdded | NodeLabels | PodGone | PodPlaced)
            }
        }
    }
}

/// What a change of a node means.
pub(crate) fn of_node(old: Option<&NodeFacts>, new: &NodeFacts) -> Vec<Happening> {
    let Some(old) = old else {
        return vec![Happening::NodeAdded];
    };
    let mut happenings = Vec::new();
    if old.allocatable != new.allocatable {
        happenings.push(Happening::NodeAllocatable);
    }
    if old.index.labels != new.index.labels {
        happenings.push(Happening::NodeLabels);
    }
    if old.taints != new.taints || old.is_unschedulable != new.is_unschedulable {
        happenings.push(Happening::NodeTaints);
    }
    happenings
}
