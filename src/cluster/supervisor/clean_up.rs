//! Takes away what a server left on the host; its data stays.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use bootstrap::DataDir;
use containers::{LogLimits, Runtime, RuntimeOptions};
use cri::{NetworkAttachment, SandboxNetwork};
use env::{SystemClock, SystemRng};
use images::{ImageStore, LocalImageService, PullSettings};
use linux::mounts;
use pod_network::PodNetwork;
use service_proxy::ServiceProxy;

use crate::control_groups;
use crate::network_policies;
use crate::node::cni_attachments;

/// Ends every pod of the server with this data folder and removes its control groups, links, nftables tables and mounts.
///
/// The server must not run. Everything is tried; the first failure is told.
pub async fn clean_up(data_dir: &Path) -> anyhow::Result<()> {
    let data_dir = DataDir::at(data_dir);
    let instance = data_dir.instance();
    let runtime = end_pods(&data_dir).await;
    if runtime.as_ref().is_err_and(is_in_use) {
        return runtime;
    }
    let plugins = cni::clean_up(&cni_attachments(&data_dir)).await;
    let plugins = plugins.context("take away what network plugins made");
    let links = PodNetwork::clean_up(&instance).context("remove the network links");
    let services = ServiceProxy::clean_up(&instance).context("remove the rules of Services");
    let policies = network_policies::remove(&instance);
    let mounts = unmount_below(data_dir.root()).context("unmount what is below the data folder");
    runtime
        .and(plugins)
        .and(links)
        .and(services)
        .and(policies)
        .and(mounts)
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(containers::Error::InUse(_)))
}

async fn end_pods(data_dir: &DataDir) -> anyhow::Result<()> {
    if !data_dir.root().join("run").exists() {
        return Ok(());
    }
    let store = ImageStore::open(&data_dir.agent()).context("open the image store")?;
    let options = RuntimeOptions {
        data_dir: data_dir.root().to_owned(),
        instance: data_dir.instance(),
        cgroup_parent: control_groups::of_instance(&data_dir.instance())?,
        images: Arc::new(LocalImageService::new(
            Arc::new(store),
            PullSettings::default(),
        )),
        network: Arc::new(NoNetwork),
        clock: SystemClock::shared(),
        rng: SystemRng::shared(),
        log_limits: LogLimits::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let runtime = Runtime::open(options).await.map_err(|error| match error {
        in_use @ containers::Error::InUse(_) => {
            anyhow::Error::from(in_use).context("stop the server first")
        }
        other => anyhow::Error::from(other).context("open the container runtime"),
    })?;
    runtime.clean_up().await.context("end the pods")
}

/// The data folder itself may be a mount of somebody else's.
fn unmount_below(data_dir: &Path) -> anyhow::Result<()> {
    let Ok(root) = data_dir.canonicalize() else {
        return Ok(());
    };
    for entry in mounts::table()?.iter().rev() {
        if entry.mount_point != root && entry.mount_point.starts_with(&root) {
            mounts::unmount(&entry.mount_point)?;
        }
    }
    Ok(())
}

/// Links are removed all at once, after the pods.
struct NoNetwork;

#[async_trait]
impl SandboxNetwork for NoNetwork {
    async fn attach(&self, _attachment: NetworkAttachment<'_>) -> cri::Result<Vec<IpAddr>> {
        Err(cri::Error::ConfigPodSandboxNetwork(
            "nothing is started while cleaning up".to_owned(),
        ))
    }

    async fn detach(&self, _pod_uid: &str) -> cri::Result<()> {
        Ok(())
    }

    async fn existing(&self) -> cri::Result<Vec<String>> {
        Ok(Vec::new())
    }
}
