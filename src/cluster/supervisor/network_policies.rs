//! Network policies on the node: they run beside Services, and pods wait for them.

use std::net::IpAddr;

use anyhow::Context as _;
use cri::RuntimeService;
use informer::Factory;
use network_policy::{ConnectedPod, NodePods, PolicyTable};

use crate::control_plane::Basics;
use crate::keep_running::keep_running;
use crate::sandbox_network::Connector;

/// Follows the policies; the pods that are connected are told through what this returns.
pub(crate) fn start(instance: &str, factory: &Factory, basics: &Basics) -> NodePods {
    let node_pods = NodePods::default();
    let (instance, factory) = (instance.to_owned(), factory.clone());
    let (basics, pods) = (basics.clone(), node_pods.clone());
    keep_running("network policies", basics.shutdown.clone(), move || {
        let (instance, factory) = (instance.clone(), factory.clone());
        let (basics, pods) = (basics.clone(), pods.clone());
        async move {
            let table = PolicyTable::open(&instance).context("open the network policies")?;
            let (clock, shutdown) = (basics.clock.clone(), basics.shutdown.clone());
            network_policy::run(table, pods, &factory, clock, shutdown).await;
            Ok(())
        }
    });
    node_pods
}

/// Takes away the rules of a process that had policies.
pub(crate) fn remove(instance: &str) -> anyhow::Result<()> {
    PolicyTable::clean_up(instance).context("remove the rules of network policies")
}

/// Tells of the pods that an earlier process connected.
pub(crate) async fn adopt(
    node_pods: &NodePods,
    network: &Connector,
    runtime: &dyn RuntimeService,
) -> anyhow::Result<()> {
    let sandboxes = runtime.list_pod_sandboxes().await;
    let sandboxes = sandboxes.context("list the pods that run already")?;
    let attached = network.existing().into_iter();
    node_pods.adopt(attached.filter_map(|pod| {
        let of_pod = sandboxes.iter().find(|known| known.pod.uid == pod.pod_uid);
        let sandbox = of_pod?;
        Some(connected(&sandbox.pod, &sandbox.labels, pod.addresses))
    }));
    Ok(())
}

pub(crate) fn connected(
    pod: &cri::PodIdentity,
    labels: &std::collections::BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
) -> ConnectedPod {
    ConnectedPod {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        labels: labels.clone(),
        addresses,
    }
}
