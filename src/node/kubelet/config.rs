//! What the kubelet of one node is told when it is made; it never changes afterwards.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::node::memory_limits::MemoryLimits;

/// Settings of one kubelet. `Config::new` gives upstream's defaults.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// Directory for what belongs to pods: volumes, hosts files, termination logs.
    pub root_directory: PathBuf,
    /// Directory of the pods' logs: `<ns>_<name>_<uid>/<container>/<n>.log` below it.
    pub pod_logs_directory: PathBuf,
    /// Where log collectors look for links `<pod>_<ns>_<container>-<id>.log`; `None`: no links.
    pub container_logs_directory: Option<PathBuf>,
    /// Folder of static pods; `None`: no static pods.
    pub manifests_directory: Option<PathBuf>,
    /// Why the network can connect no pod, as it changes; none while it can.
    pub network_fault: watch::Receiver<Option<String>>,
    /// Addresses of the node as they are now, primary first.
    pub node_addresses: watch::Receiver<Vec<IpAddr>>,
    /// Addresses that others reach the node at from outside its network.
    pub node_external_addresses: Vec<IpAddr>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's resolver configuration, read when a sandbox is made.
    pub resolv_conf: PathBuf,
    /// Where the HTTPS server listens.
    pub listen: SocketAddr,
    pub pods_max: u32,
    pub node_labels: BTreeMap<String, String>,
    /// What the Node says of itself from the moment it is made; others may change it later.
    pub node_annotations: BTreeMap<String, String>,
    /// Taints the node registers with, `key=value:Effect`.
    pub register_taints: Vec<String>,
    /// Kept back from allocatable: cores in thousandths.
    pub reserved_cpu_millis: i64,
    /// Kept back from allocatable: bytes.
    pub reserved_memory_bytes: i64,
    /// Processes and threads of one pod; `None`: no limit.
    pub pod_pids_max: Option<i64>,
    /// Sysctls beyond the safe set, exact or ending in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Directory of seccomp profiles that pods name as `Localhost`.
    pub seccomp_profiles: PathBuf,
    /// Whether the kernel can hold pods to their limits of memory.
    pub memory_limits: MemoryLimits,
    pub eviction: crate::eviction::Thresholds,
    pub image_gc: crate::images::GcPolicy,
    pub node_status_every: Duration,
    pub lease_duration: Duration,
    pub kubelet_version: String,
    /// Changes with every boot of the machine.
    pub boot_id: String,
}

impl Config {
    pub fn new(node_name: impl Into<String>, root_directory: impl Into<PathBuf>) -> Self {
        let root_directory = root_directory.into();
        Self {
            node_name: node_name.into(),
            pod_logs_directory: root_directory.join("logs"),
            container_logs_directory: None,
            manifests_directory: None,
            network_fault: watch::channel(None).1,
            node_addresses: watch::channel(Vec::new()).1,
            node_external_addresses: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            listen: SocketAddr::from(([0, 0, 0, 0], 10250)),
            pods_max: 110,
            node_labels: BTreeMap::new(),
            node_annotations: BTreeMap::new(),
            register_taints: Vec::new(),
            reserved_cpu_millis: 0,
            reserved_memory_bytes: 0,
            pod_pids_max: None,
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_profiles: root_directory.join("seccomp"),
            memory_limits: MemoryLimits::default(),
            eviction: crate::eviction::Thresholds::default(),
            image_gc: crate::images::GcPolicy::default(),
            node_status_every: Duration::from_mins(5),
            lease_duration: Duration::from_secs(40),
            kubelet_version: apimachinery::version::GIT.to_owned(),
            boot_id: String::new(),
            root_directory,
        }
    }

    pub(crate) fn addresses_now(&self) -> Vec<IpAddr> {
        self.node_addresses.borrow().clone()
    }

    /// Directory of one pod.
    pub(crate) fn pod_directory(&self, uid: &str) -> PathBuf {
        self.root_directory.join("pods").join(uid)
    }

    /// Directory of one pod's logs.
    pub(crate) fn pod_log_directory(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs_directory
            .join(format!("{namespace}_{name}_{uid}"))
    }
}
