//! What every worker of the kubelet shares.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cri::{IdMapping, ImageService, RuntimeService, UserNamespace};
use env::{Clock, Rng};
use k8s_openapi::api::core::v1::Pod;
use kube_client::Client;
use parking_lot::Mutex;
use semantics::downward_api::NodeFacts;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::events::EventRecorder;
use crate::images::ImagePuller;
use crate::last_known::LastKnown;
use crate::node::Capacity;
use crate::objects::ApiObjects;
use crate::pods::PodTable;
use crate::pods::facts::{spec, uid};
use volumes::NodeVolumes;

/// Ids of one pod's user namespace.
const USER_NAMESPACE_LENGTH: u32 = 65_536;
/// Ranges that fit below 2^32, the first of which is the node's own.
const USER_NAMESPACES_MAX: u32 = u32::MAX / USER_NAMESPACE_LENGTH;

pub(crate) struct Services {
    pub(crate) config: Config,
    pub(crate) runtime: Arc<dyn RuntimeService>,
    pub(crate) images: Arc<dyn ImageService>,
    pub(crate) puller: Arc<ImagePuller>,
    pub(crate) volumes: NodeVolumes,
    pub(crate) client: Client,
    pub(crate) objects: Arc<ApiObjects>,
    pub(crate) last_known: LastKnown,
    pub(crate) events: EventRecorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) node: Capacity,
    pub(crate) pods_table: Arc<PodTable>,
    pub(crate) status_writes: Arc<Semaphore>,
    pub(crate) runtime_name: String,
    /// When this kubelet began: containers that are older were ready before it looked.
    pub(crate) started_at: env::Timestamp,
    pub(crate) user_namespaces: Mutex<BTreeMap<String, u32>>,
}

impl Services {
    pub(crate) fn node_facts(&self, pod_ips: Vec<IpAddr>) -> NodeFacts {
        NodeFacts {
            host_ips: self.config.addresses_now(),
            pod_ips,
            allocatable: self.node.allocatable.clone(),
        }
    }

    /// The ids of a pod that does not want the node's; the same ones for as long as the pod is here.
    pub(crate) fn user_namespace_of(&self, pod: &Pod) -> cri::Result<Option<IdMapping>> {
        if spec(pod).host_users != Some(false) {
            return Ok(None);
        }
        let mut taken = self.user_namespaces.lock();
        let slot = match taken.get(uid(pod)) {
            Some(slot) => *slot,
            None => (1..USER_NAMESPACES_MAX)
                .find(|slot| !taken.values().any(|other| other == slot))
                .ok_or_else(|| {
                    cri::Error::CreatePodSandbox("no range of user ids is free".to_owned())
                })?,
        };
        taken.insert(uid(pod).to_owned(), slot);
        let host_id = slot * USER_NAMESPACE_LENGTH;
        Ok(Some(IdMapping {
            container_id: 0,
            host_id,
            length: USER_NAMESPACE_LENGTH,
        }))
    }

    /// A sandbox that was found holds these ids.
    pub(crate) fn adopt_user_namespace(&self, pod_uid: &str, namespace: &UserNamespace) {
        if let UserNamespace::Pod(mapping) = namespace {
            self.user_namespaces
                .lock()
                .insert(pod_uid.to_owned(), mapping.host_id / USER_NAMESPACE_LENGTH);
        }
    }

    pub(crate) fn release_user_namespace(&self, pod_uid: &str) {
        self.user_namespaces.lock().remove(pod_uid);
    }
}
