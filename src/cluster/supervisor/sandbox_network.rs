//! The pod network as the container runtime asks for it.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use async_trait::async_trait;
use cni::CniNetwork;
use cri::{NetworkAttachment, SandboxNetwork};
use network_policy::NodePods;
use pod_network::{AttachedPod, PodNetwork};

use crate::{cni_capabilities, network_policies};

/// Who connects pods.
#[derive(Clone)]
pub(crate) enum Connector {
    /// Links of our own.
    Routes(PodNetwork),
    /// CNI plugins.
    Plugins(CniNetwork),
}

impl Connector {
    async fn attach(&self, attachment: &NetworkAttachment<'_>) -> cri::Result<Vec<IpAddr>> {
        let pod = attachment.pod;
        let attached = match self {
            Self::Routes(pods) => pods
                .attach(&pod.uid, attachment.netns)
                .await
                .map_err(anyhow::Error::from),
            Self::Plugins(plugins) => {
                let known = cni_capabilities::capabilities(attachment);
                let known = known.map_err(cri::Error::ConfigPodSandboxNetwork)?;
                let sandbox = cni::Sandbox {
                    pod_uid: &pod.uid,
                    namespace: &pod.namespace,
                    name: &pod.name,
                    netns: attachment.netns,
                    capabilities: &known,
                };
                let attached = plugins.attach(sandbox).await;
                attached.map_err(anyhow::Error::from)
            }
        };
        attached.map_err(failure)
    }

    async fn check(&self, pod_uid: &str, netns: BorrowedFd<'_>) -> cri::Result<()> {
        match self {
            Self::Routes(_) => Ok(()),
            Self::Plugins(plugins) => plugins
                .check(pod_uid, netns)
                .await
                .map_err(|error| failure(error.into())),
        }
    }

    async fn detach(&self, pod_uid: &str) -> cri::Result<()> {
        match self {
            Self::Routes(pods) => {
                pods.detach(pod_uid);
                Ok(())
            }
            Self::Plugins(plugins) => plugins
                .detach(pod_uid)
                .await
                .map_err(|error| failure(error.into())),
        }
    }

    pub(crate) fn existing(&self) -> Vec<AttachedPod> {
        match self {
            Self::Routes(pods) => pods.existing(),
            Self::Plugins(plugins) => {
                let pods = plugins.existing().into_iter();
                pods.map(|(pod_uid, addresses)| AttachedPod { pod_uid, addresses })
                    .collect()
            }
        }
    }
}

fn failure(error: anyhow::Error) -> cri::Error {
    cri::Error::ConfigPodSandboxNetwork(format!("{error:#}"))
}

pub(crate) struct PodSandboxNetwork {
    pub(crate) connector: Connector,
    /// `None`: there are no network policies.
    pub(crate) policies: Option<NodePods>,
}

#[async_trait]
impl SandboxNetwork for PodSandboxNetwork {
    // Host ports need nothing here: the service proxy sees them in the pods of the API.
    async fn attach(&self, attachment: NetworkAttachment<'_>) -> cri::Result<Vec<IpAddr>> {
        let addresses = self.connector.attach(&attachment).await?;
        if let Some(policies) = &self.policies {
            // Nothing runs in the sandbox before this returns, so nothing is reached before its policies are in force.
            let pod = attachment.pod;
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
        self.connector.detach(pod_uid).await
    }

    async fn check(&self, pod_uid: &str, netns: BorrowedFd<'_>) -> cri::Result<()> {
        self.connector.check(pod_uid, netns).await
    }

    async fn existing(&self) -> cri::Result<Vec<String>> {
        let pods = self.connector.existing().into_iter();
        Ok(pods.map(|pod| pod.pod_uid).collect())
    }
}
