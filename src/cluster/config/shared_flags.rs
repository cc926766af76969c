//! Flags that servers and agents have in common.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use crate::ProxyVariables;

/// Where a process keeps what it has, and what it tells.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "General")]
pub struct GeneralFlags {
    /// Configuration file with the names of these flags; the files of the folder FILE.d follow it
    /// [default: /etc/combo/config.yaml]
    #[arg(long, short = 'c', env = "COMBO_CONFIG_FILE", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Folder that holds all state [default: /var/lib/combo]
    #[arg(long, short = 'd', env = "COMBO_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Log in more detail
    #[arg(long, env = "COMBO_DEBUG")]
    pub debug: bool,

    /// Form of the log: text or json [default: text]
    #[arg(long, env = "COMBO_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// What is said about a node, be it in a server's process or an agent.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Node")]
pub struct NodeFlags {
    /// Name of this node [default: the host's name, in lower case]
    #[arg(long, env = "COMBO_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Address of this node [default: the one with the default route]
    #[arg(long, short = 'i', env = "COMBO_NODE_IP", value_name = "ADDRESS")]
    pub node_ip: Option<IpAddr>,

    /// Addresses that others reach this node at from outside its network
    #[arg(
        long,
        env = "COMBO_NODE_EXTERNAL_IP",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    pub node_external_ip: Vec<IpAddr>,

    /// Labels that the node registers with
    #[arg(
        long,
        env = "COMBO_NODE_LABEL",
        value_name = "KEY=VALUE",
        value_delimiter = ','
    )]
    pub node_label: Vec<String>,

    /// Taints that the node registers with
    #[arg(
        long,
        env = "COMBO_NODE_TAINT",
        value_name = "KEY=VALUE:EFFECT",
        value_delimiter = ','
    )]
    pub node_taint: Vec<String>,

    /// Port of the kubelet's own API [default: 10250]
    #[arg(long, env = "COMBO_KUBELET_PORT", value_name = "PORT")]
    pub kubelet_port: Option<u16>,

    /// Resolver configuration of pods that use the node's DNS [default: /etc/resolv.conf]
    #[arg(long, env = "COMBO_RESOLV_CONF", value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,

    /// Network interface whose address is the node's [default: the one with the default route]
    #[arg(long, env = "COMBO_FLANNEL_IFACE", value_name = "INTERFACE")]
    pub flannel_iface: Option<String>,

    /// Compute checksums before packets enter the VXLAN tunnel, for network cards that get them
    /// wrong; costs three quarters of the throughput
    #[arg(long, env = "COMBO_DISABLE_CHECKSUM_OFFLOAD")]
    pub disable_checksum_offload: bool,

    /// Network configurations for CNI plugins, with --flannel-backend=none [default: /etc/cni/net.d]
    #[arg(long, env = "COMBO_CNI_CONF_DIR", value_name = "FOLDER")]
    pub cni_conf_dir: Option<PathBuf>,

    /// Programs of CNI plugins, with --flannel-backend=none [default: /opt/cni/bin]
    #[arg(long, env = "COMBO_CNI_BIN_DIR", value_name = "FOLDER")]
    pub cni_bin_dir: Option<PathBuf>,

    /// Mirrors and credentials of registries [default: /etc/combo/registries.yaml]
    #[arg(long, env = "COMBO_PRIVATE_REGISTRY", value_name = "FILE")]
    pub private_registry: Option<PathBuf>,

    /// Pull from a registry's mirrors only, where it has some
    #[arg(long, env = "COMBO_DISABLE_DEFAULT_REGISTRY_ENDPOINT")]
    pub disable_default_registry_endpoint: bool,

    /// Proxies that the environment names: they are no flags.
    #[arg(skip)]
    pub proxies: ProxyVariables,
}
