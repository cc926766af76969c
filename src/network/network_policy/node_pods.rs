//! The seam to the one who connects pods: a pod of this node runs only when the policies for it are in force.

use crate::error::Error;
use crate::facts::ConnectedPod;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a pod waits for its policies. Then it is refused, and whoever starts it tries again.
const IN_FORCE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The pods that are connected on this node. Clones are handles on the same ones.
#[derive(Debug, Clone)]
pub struct NodePods(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: watch::Sender<Known>,
    /// The version that the kernel's rules were made for.
    in_force: watch::Sender<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Whether the pods of an earlier process are among them.
    pub(crate) is_complete: bool,
    /// Counts the changes.
    pub(crate) version: u64,
    /// By uid.
    pub(crate) pods: BTreeMap<String, ConnectedPod>,
}

impl Default for NodePods {
    fn default() -> Self {
        Self(Arc::new(Shared {
            known: watch::Sender::new(Known::default()),
            in_force: watch::Sender::new(0),
        }))
    }
}

impl NodePods {
    /// Takes over the pods that an earlier process connected. Until this is called no rule of that process is changed.
    pub fn adopt(&self, pods: impl IntoIterator<Item = ConnectedPod>) {
        self.0.known.send_modify(|known| {
            for pod in pods {
                known.pods.entry(pod.uid.clone()).or_insert(pod);
            }
            known.is_complete = true;
            known.version += 1;
        });
    }

    /// A pod got its addresses. Returns when the policies that select it are in force, or with an error after a while:
    /// then nothing of the pod may run.
    pub async fn connected(&self, pod: ConnectedPod) -> Result<(), Error> {
        let name = format!("{}/{}", pod.namespace, pod.name);
        let mut version = 0;
        self.0.known.send_modify(|known| {
            known.version += 1;
            version = known.version;
            known.pods.insert(pod.uid.clone(), pod);
        });
        let mut in_force = self.0.in_force.subscribe();
        let reached = in_force.wait_for(|reached| *reached >= version);
        match env::timeout(IN_FORCE_WAIT_MAX, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::NotInForce {
                pod: name,
                waited: IN_FORCE_WAIT_MAX,
            }),
        }
    }

    /// A pod has no addresses any more; quiet when it had none.
    pub fn disconnected(&self, uid: &str) {
        self.0.known.send_if_modified(|known| {
            let was_known = known.pods.remove(uid).is_some();
            known.version += u64::from(was_known);
            was_known
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Known> {
        self.0.known.subscribe()
    }

    /// The rules for this version are in the kernel.
    pub(crate) fn is_in_force(&self, version: u64) {
        self.0.in_force.send_replace(version);
    }
}
