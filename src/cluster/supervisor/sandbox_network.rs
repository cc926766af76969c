//! The pod network as the container runtime asks for it.

use std::net::IpAddr;

use async_trait::async_trait;
use cri::{NetworkAttachment, SandboxNetwork};
use network_policy::NodePods;
use pod_network::PodNetwork;

use crate::network_policies;

pub(crate) struct RoutedNetwork {
    pub(crate) pods: PodNetwork,
    /// `None`: there are no network policies.
    pub(crate) policies: Option<NodePods>,
}

#[async_trait]
impl SandboxNetwork for RoutedNetwork {
    // Host ports need nothing here: the service proxy sees them in the pods of the API.
    async fn attach(&self, attachment: NetworkAttachment<'_>) -> cri::Result<Vec<IpAddr>> {
        let pod = attachment.pod;
        let attached = self.pods.attach(&pod.uid, attachment.netns).await;
        let addresses =
            attached.map_err(|error| cri::Error::ConfigPodSandboxNetwork(error.to_string()))?;
        if let Some(policies) = &self.policies {
            // Nothing runs in the sandbox before this returns, so nothing is reached before its policies are in force.
            let connected = network_policies::connected(pod, attachment.labels, addresses.clone());
            if let Err(error) = policies.connected(connected).await {
                self.detach(&pod.uid).await?;
                return Err(cri::Error::ConfigPodSandboxNetwork(error.to_string()));
            }
        }
        Ok(addresses)
    }

    async fn detach(&self, pod_uid: &str) -> cri::Result<()> {
        if let Some(policies) = &self.policies {
            policies.disconnected(pod_uid);
        }
        self.pods.detach(pod_uid);
        Ok(())
    }

    async fn existing(&self) -> cri::Result<Vec<String>> {
        Ok(self
            .pods
            .existing()
            .into_iter()
            .map(|pod| pod.pod_uid)
            .collect())
    }
}
