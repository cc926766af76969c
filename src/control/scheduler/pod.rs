//! What scheduling reads of a pod, made once per version of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{LabelSelector, ObjectIndex, ObjectKey, Quantity, StoredObject};
use env::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, Pod, PodAffinityTerm, PodSpec, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use semantics::resources::{Amounts, pod_requests};
use semantics::selectors::label_selector;

/// What a container without requests counts as when nodes are compared, so that such pods spread too.
const DEFAULT_MILLICPU: &str = "100m";
const DEFAULT_MEMORY: &str = "209715200";

/// A port a pod occupies on its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    /// Empty: all addresses.
    pub(crate) address: String,
    pub(crate) protocol: String,
    pub(crate) port: i32,
}

impl HostPort {
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_empty()
                || other.address.is_empty()
                || self.address == other.address)
    }
}

/// A term of pod affinity, ready to match.
#[derive(Clone, Debug)]
pub(crate) struct AffinityTerm {
    selector: LabelSelector,
    namespaces: Vec<String>,
    /// `None`: no namespaces beyond those named.
    namespace_selector: Option<LabelSelector>,
    pub(crate) topology_key: String,
}

/// How namespaces are looked up: the labels of one.
pub(crate) type NamespaceLabels<'a> = &'a dyn Fn(&str) -> Option<Arc<ObjectIndex>>;

impl AffinityTerm {
    fn of(term: &PodAffinityTerm, own_namespace: &str) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(own_namespace.to_owned());
        }
        Self {
            selector: label_selector(term.label_selector.as_ref())
                .unwrap_or_else(|_| LabelSelector::nothing()),
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().map(|selector| {
                label_selector(Some(selector)).unwrap_or_else(|_| LabelSelector::nothing())
            }),
            topology_key: term.topology_key.clone(),
        }
    }

    pub(crate) fn matches(&self, pod: &PodInfo, namespaces: NamespaceLabels<'_>) -> bool {
        let namespace = &pod.index.key.namespace;
        let is_in_namespace = self.namespaces.contains(namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_everything()
                    || namespaces(namespace)
                        .is_some_and(|labels| selector.matches_with(|key| labels.label(key)))
            });
        is_in_namespace && self.selector.matches_with(|key| pod.index.label(key))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PodAffinity {
    pub(crate) required: Vec<AffinityTerm>,
    pub(crate) preferred: Vec<(i64, AffinityTerm)>,
}

/// The owned facts of a pod that runs or could run somewhere.
#[derive(Clone, Debug)]
pub(crate) struct PodInfo {
    pub(crate) index: Arc<ObjectIndex>,
    pub(crate) node_name: String,
    pub(crate) priority: i32,
    pub(crate) requests: Amounts,
    /// Millicores and bytes with which nodes are compared.
    pub(crate) weighed: (i64, i64),
    pub(crate) ports: Vec<HostPort>,
    pub(crate) affinity: PodAffinity,
    pub(crate) anti_affinity: PodAffinity,
    pub(crate) started: Option<Timestamp>,
    /// Claims by name, for those whose access mode allows one pod only.
    pub(crate) claims: Vec<String>,
}

impl PodInfo {
    pub(crate) fn key(&self) -> &ObjectKey {
        &self.index.key
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.index.is_being_deleted
    }
}

/// A pod that waits for a node, with all that plugins may ask of it.
#[derive(Clone, Debug)]
pub(crate) struct PendingPod {
    pub(crate) info: Arc<PodInfo>,
    pub(crate) spec: PodSpec,
    pub(crate) nominated_node: String,
    /// The standing `PodScheduled` condition: reason and message.
    pub(crate) condition: Option<(String, String)>,
}

/// What a version of a pod means to the scheduler.
pub(crate) enum Scheduling {
    /// Bound and neither finished nor gone.
    Assigned(Arc<PodInfo>),
    /// Ours to schedule.
    Pending(Box<PendingPod>),
    /// Finished, or another scheduler's, or held by gates, or leaving before it was bound.
    Nothing,
}

pub(crate) fn classify(stored: &StoredObject, scheduler_name: &str) -> Scheduling {
    let Ok(pod) = stored.decode::<Pod>() else {
        return Scheduling::Nothing;
    };
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Scheduling::Nothing;
    }
    let started = status.start_time.map(|time| Timestamp::from_jiff(time.0));
    let info = Arc::new(info(stored, &spec, started));
    if !info.node_name.is_empty() {
        return Scheduling::Assigned(info);
    }
    let is_gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    let is_ours = spec.scheduler_name.as_deref().unwrap_or(scheduler_name) == scheduler_name;
    if is_gated || !is_ours || info.is_terminating() {
        return Scheduling::Nothing;
    }
    let condition = status
        .conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    Scheduling::Pending(Box::new(PendingPod {
        nominated_node: status.nominated_node_name.unwrap_or_default(),
        condition: condition.map(|condition| {
            (
                condition.reason.unwrap_or_default(),
                condition.message.unwrap_or_default(),
            )
        }),
        info,
        spec,
    }))
}

fn info(stored: &StoredObject, spec: &PodSpec, started: Option<Timestamp>) -> PodInfo {
    let namespace = &stored.key().namespace;
    let affinity = spec.affinity.as_ref();
    let attract = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let repel = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = |required: Option<&Vec<PodAffinityTerm>>| -> Vec<AffinityTerm> {
        required
            .into_iter()
            .flatten()
            .map(|term| AffinityTerm::of(term, namespace))
            .collect()
    };
    let weighted =
        |preferred: Option<&Vec<k8s_openapi::api::core::v1::WeightedPodAffinityTerm>>| {
            let terms = preferred.into_iter().flatten();
            terms
                .map(|term| {
                    (
                        i64::from(term.weight),
                        AffinityTerm::of(&term.pod_affinity_term, namespace),
                    )
                })
                .collect()
        };
    PodInfo {
        index: Arc::clone(&stored.index),
        node_name: spec.node_name.clone().unwrap_or_default(),
        priority: spec.priority.unwrap_or(0),
        requests: pod_requests(spec),
        weighed: weighed(spec),
        ports: host_ports(spec),
        affinity: PodAffinity {
            required: terms(attract.and_then(|one| {
                one.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred: weighted(attract.and_then(|one| {
                one.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
        },
        anti_affinity: PodAffinity {
            required: terms(repel.and_then(|one| {
                one.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred: weighted(repel.and_then(|one| {
                one.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
        },
        started,
        claims: claims(spec, &stored.key().name),
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|one| semantics::resources::is_sidecar(one));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let occupied = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.clone().unwrap_or_default();
        Some(HostPort {
            address: if matches!(address.as_str(), "0.0.0.0" | "::") {
                String::new()
            } else {
                address
            },
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: number,
        })
    });
    occupied.collect()
}

/// Claims the pod mounts, those made for its ephemeral volumes included.
fn claims(spec: &PodSpec, pod_name: &str) -> Vec<String> {
    let volumes = spec.volumes.iter().flatten();
    let claims =
        volumes.filter_map(
            |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => Some(claim.claim_name.clone()),
                (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
                (None, None) => None,
            },
        );
    claims.collect()
}

fn weighed(spec: &PodSpec) -> (i64, i64) {
    let with_defaults = |container: &Container| {
        let mut container = container.clone();
        let requests = container
            .resources
            .get_or_insert_default()
            .requests
            .get_or_insert_default();
        let mut fill = |name: &str, amount: &str| {
            requests
                .entry(name.to_owned())
                .or_insert_with(|| ApiQuantity(amount.to_owned()));
        };
        fill("cpu", DEFAULT_MILLICPU);
        fill("memory", DEFAULT_MEMORY);
        container
    };
    let filled = PodSpec {
        containers: spec.containers.iter().map(with_defaults).collect(),
        init_containers: spec
            .init_containers
            .as_ref()
            .map(|containers| containers.iter().map(with_defaults).collect()),
        overhead: spec.overhead.clone(),
        resources: spec.resources.clone(),
        ..PodSpec::default()
    };
    let requests = pod_requests(&filled);
    let amount = |name: &str| requests.get(name).copied().unwrap_or(Quantity::ZERO);
    (amount("cpu").millis(), amount("memory").units())
}

/// The constraints a pod states itself.
pub(crate) fn spread_constraints(spec: &PodSpec) -> &[TopologySpreadConstraint] {
    spec.topology_spread_constraints
        .as_deref()
        .unwrap_or_default()
}

/// Labels by key, as `matchLabelKeys` asks for them.
pub(crate) fn labels_of(index: &ObjectIndex, keys: &[String]) -> BTreeMap<String, String> {
    let value = |key: &String| Some((key.clone(), index.label(key)?.to_owned()));
    keys.iter().filter_map(value).collect()
}
