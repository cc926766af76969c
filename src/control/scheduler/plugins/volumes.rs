//! A pod goes where its volumes can be: bound ones by their node affinity, others where one is free or can be made.

use apimachinery::{ObjectKey, Quantity};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use semantics::node_affinity::selector_matches;
use semantics::selectors::label_selector;

use super::{Plugin, Rejection, Snapshot};
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::PendingPod;

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// A claim of the pod, as it stands.
enum Claim {
    Bound(Box<PersistentVolume>),
    /// It waits for the pod's node.
    Open {
        spec: Box<PersistentVolumeClaimSpec>,
        provisioner: String,
        selected_node: String,
    },
}

pub(super) struct Prepared {
    claims: Vec<(ObjectKey, Claim)>,
    /// Volumes nobody has.
    free: Vec<PersistentVolume>,
    /// Claims that one pod at a time may use.
    exclusive: Vec<String>,
    namespace: String,
}

/// What must be done to a claim before its pod is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimPlan {
    /// Take this free volume.
    Take { claim: ObjectKey, volume: String },
    /// Have one made near this node.
    Provision { claim: ObjectKey },
}

pub(super) fn prepare(
    pod: &PendingPod,
    snapshot: &Snapshot<'_>,
) -> Result<Prepared, (Plugin, String)> {
    let namespace = pod.info.index.key.namespace.clone();
    let mut claims = Vec::new();
    let mut exclusive = Vec::new();
    for name in &pod.info.claims {
        let key = ObjectKey::namespaced(namespace.clone(), name.clone());
        let claim = claim(&key, snapshot, &mut exclusive)?;
        claims.push((key, claim));
    }
    let needs_free = claims
        .iter()
        .any(|(_, claim)| matches!(claim, Claim::Open { .. }));
    let volumes = if needs_free {
        snapshot.workloads.volumes.list()
    } else {
        Vec::new()
    };
    let is_free = |volume: &PersistentVolume| {
        let spec = volume.spec.as_ref();
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        spec.is_some_and(|spec| spec.claim_ref.is_none()) && matches!(phase, Some("Available"))
    };
    let free = volumes
        .iter()
        .filter_map(|volume| volume.decode().ok())
        .filter(is_free)
        .collect();
    Ok(Prepared {
        claims,
        free,
        exclusive,
        namespace,
    })
}

fn claim(
    key: &ObjectKey,
    snapshot: &Snapshot<'_>,
    exclusive: &mut Vec<String>,
) -> Result<Claim, (Plugin, String)> {
    let refuse = |why: String| (Plugin::VolumeBinding, why);
    let stored = snapshot.workloads.claims.get(key);
    let missing = || refuse(format!("persistentvolumeclaim {:?} not found", key.name));
    let claim: PersistentVolumeClaim = stored
        .as_ref()
        .and_then(|stored| stored.decode().ok())
        .ok_or_else(missing)?;
    if stored.is_some_and(|stored| stored.index.is_being_deleted) {
        return Err(refuse(format!(
            "persistentvolumeclaim {:?} is being deleted",
            key.name
        )));
    }
    let lost = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Lost");
    let spec = claim.spec.unwrap_or_default();
    let annotations = claim.metadata.annotations.unwrap_or_default();
    if lost {
        let volume = spec.volume_name.unwrap_or_default();
        return Err(refuse(format!(
            "persistentvolumeclaim {:?} bound to non-existent persistentvolume {volume:?}",
            key.name
        )));
    }
    if spec
        .access_modes
        .iter()
        .flatten()
        .any(|mode| mode == "ReadWriteOncePod")
    {
        exclusive.push(key.name.clone());
    }
    let volume_name = spec.volume_name.clone().unwrap_or_default();
    if !volume_name.is_empty() && annotations.contains_key(BIND_COMPLETED) {
        return bound(volume_name, snapshot).map_err(refuse);
    }
    let class = spec.storage_class_name.clone().unwrap_or_default();
    let class = snapshot.workloads.classes.get(&ObjectKey::cluster(class));
    let class: Option<StorageClass> = class.and_then(|class| class.decode().ok());
    let waits = class
        .as_ref()
        .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if !waits || !volume_name.is_empty() {
        return Err(refuse(
            "pod has unbound immediate PersistentVolumeClaims".into(),
        ));
    }
    Ok(Claim::Open {
        spec: Box::new(spec),
        provisioner: class.map(|class| class.provisioner).unwrap_or_default(),
        selected_node: annotations.get(SELECTED_NODE).cloned().unwrap_or_default(),
    })
}

/// The volume that a claim is bound to.
fn bound(name: String, snapshot: &Snapshot<'_>) -> Result<Claim, String> {
    let volume = snapshot.workloads.volumes.get(&ObjectKey::cluster(name));
    let volume = volume.and_then(|volume| volume.decode().ok());
    volume
        .map(|volume| Claim::Bound(Box::new(volume)))
        .ok_or_else(|| {
            "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".into()
        })
}

impl Prepared {
    pub(super) fn filter(&self, facts: &NodeFacts, node: &NodeInfo) -> Result<(), Rejection> {
        let is_taken = |name: &String| {
            node.pods
                .values()
                .any(|pod| pod.index.key.namespace == self.namespace && pod.claims.contains(name))
        };
        if self.exclusive.iter().any(is_taken) {
            let reason = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
            return Err(Rejection::resolvable(Plugin::VolumeRestrictions, reason));
        }
        let mut taken = Vec::new();
        for (_, claim) in &self.claims {
            match claim {
                Claim::Bound(volume) if !is_reachable(volume, facts) => {
                    let reason = "node(s) didn't match PersistentVolume's node affinity";
                    return Err(Rejection::final_for_node(Plugin::VolumeBinding, reason));
                }
                Claim::Bound(_) => {}
                Claim::Open {
                    spec,
                    provisioner,
                    selected_node,
                } => {
                    let name = &facts.index.key.name;
                    let is_promised = !selected_node.is_empty();
                    let fits = match self.free_volume(spec, facts, &taken) {
                        Some(volume) if !is_promised => {
                            taken.push(volume);
                            true
                        }
                        _ if is_promised => selected_node == name,
                        _ => !provisioner.is_empty() && provisioner != NO_PROVISIONER,
                    };
                    if !fits {
                        let reason = "node(s) didn't find available persistent volumes to bind";
                        return Err(Rejection::final_for_node(Plugin::VolumeBinding, reason));
                    }
                }
            }
        }
        Ok(())
    }

    /// The smallest free volume that suits the claim and can be reached from the node.
    fn free_volume(
        &self,
        claim: &PersistentVolumeClaimSpec,
        facts: &NodeFacts,
        taken: &[String],
    ) -> Option<String> {
        let wanted = claim
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        let wanted =
            wanted.and_then(|requests| Quantity::parse(&requests.get("storage")?.0).ok())?;
        let selector = claim
            .selector
            .as_ref()
            .map(|selector| label_selector(Some(selector)));
        let suits = |volume: &&PersistentVolume| {
            let Some(spec) = &volume.spec else {
                return false;
            };
            let modes = spec.access_modes.as_deref().unwrap_or_default();
            let labels = volume.metadata.labels.clone().unwrap_or_default();
            spec.storage_class_name.clone().unwrap_or_default()
                == claim.storage_class_name.clone().unwrap_or_default()
                && spec.volume_mode.as_deref().unwrap_or("Filesystem")
                    == claim.volume_mode.as_deref().unwrap_or("Filesystem")
                && claim
                    .access_modes
                    .iter()
                    .flatten()
                    .all(|mode| modes.contains(mode))
                && selector
                    .as_ref()
                    .is_none_or(|selector| selector.as_ref().is_ok_and(|one| one.matches(&labels)))
                && size(volume) >= wanted
                && is_reachable(volume, facts)
                && !volume
                    .metadata
                    .name
                    .as_ref()
                    .is_some_and(|name| taken.contains(name))
        };
        self.free
            .iter()
            .filter(suits)
            .min_by_key(|volume| size(volume))?
            .metadata
            .name
            .clone()
    }

    fn plans(&self, facts: &NodeFacts) -> Vec<ClaimPlan> {
        let mut taken = Vec::new();
        let mut plans = Vec::new();
        for (key, claim) in &self.claims {
            let Claim::Open {
                spec,
                selected_node,
                ..
            } = claim
            else {
                continue;
            };
            let volume = self
                .free_volume(spec, facts, &taken)
                .filter(|_| selected_node.is_empty());
            plans.push(match volume {
                Some(volume) => {
                    taken.push(volume.clone());
                    ClaimPlan::Take {
                        claim: key.clone(),
                        volume,
                    }
                }
                None => ClaimPlan::Provision { claim: key.clone() },
            });
        }
        plans
    }
}

/// What must be done to the pod's claims before it is bound to this node.
pub(crate) fn claim_plans(prepared: &super::Prepared, facts: &NodeFacts) -> Vec<ClaimPlan> {
    prepared.volumes.plans(facts)
}

fn size(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    let size = capacity.and_then(|capacity| Quantity::parse(&capacity.get("storage")?.0).ok());
    size.unwrap_or(Quantity::ZERO)
}

fn is_reachable(volume: &PersistentVolume, facts: &NodeFacts) -> bool {
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|selector| selector_matches(selector, facts))
}
