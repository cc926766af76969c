//! The pod network as the container runtime asks for it.

use std::net::IpAddr;

use async_trait::async_trait;
use cri::{NetworkAttachment, SandboxNetwork};
use pod_network::PodNetwork;

pub(crate) struct RoutedNetwork(pub(crate) PodNetwork);

#[async_trait]
impl SandboxNetwork for RoutedNetwork {
    // Host ports need nothing here: the service proxy sees them in the pods of the API.
    async fn attach(&self, attachment: NetworkAttachment<'_>) -> cri::Result<Vec<IpAddr>> {
        self.0
            .attach(&attachment.pod.uid, attachment.netns)
            .await
            .map_err(|error| cri::Error::ConfigPodSandboxNetwork(error.to_string()))
    }

    async fn detach(&self, pod_uid: &str) -> cri::Result<()> {
        self.0.detach(pod_uid);
        Ok(())
    }

    async fn existing(&self) -> cri::Result<Vec<String>> {
        Ok(self
            .0
            .existing()
            .into_iter()
            .map(|pod| pod.pod_uid)
            .collect())
    }
}
