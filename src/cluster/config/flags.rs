//! What a person may say about a server. Flag names are k3s' where the meaning is the same.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use crate::{DatastoreFlags, GeneralFlags, NodeFlags, SnapshotFlags};

/// Flags of `combo server`; the config file has the same names.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFlags {
    #[command(flatten)]
    pub general: GeneralFlags,

    /// Port of the API server [default: 6443]
    #[arg(
        help_heading = "Listener",
        long,
        env = "COMBO_HTTPS_LISTEN_PORT",
        value_name = "PORT"
    )]
    pub https_listen_port: Option<u16>,

    /// Address the API server listens on [default: 0.0.0.0]
    #[arg(
        help_heading = "Listener",
        long,
        env = "COMBO_BIND_ADDRESS",
        value_name = "ADDRESS"
    )]
    pub bind_address: Option<IpAddr>,

    /// Serve the store behind etcd's API, too, at a port or an address and port; only the
    /// cluster's own certificate, <data-dir>/server/tls/client-kube-apiserver.crt, is let in
    /// [default host: 127.0.0.1]
    #[arg(
        help_heading = "Listener",
        long,
        env = "COMBO_ETCD_LISTEN",
        value_name = "ADDRESS"
    )]
    pub etcd_listen: Option<String>,

    /// Address that others reach the API server at [default: the node's]
    #[arg(
        help_heading = "Listener",
        long,
        env = "COMBO_ADVERTISE_ADDRESS",
        value_name = "ADDRESS"
    )]
    pub advertise_address: Option<IpAddr>,

    /// More names and addresses for the API server's certificate
    #[arg(
        help_heading = "Listener",
        long,
        env = "COMBO_TLS_SAN",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub tls_san: Vec<String>,

    /// Take requests without credentials as those of system:anonymous, who may what roles allow;
    /// otherwise they are refused on every path [default: false]
    #[arg(
        help_heading = "Listener",
        long,
        env = "COMBO_ANONYMOUS_AUTH",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub anonymous_auth: Option<bool>,

    /// Where to write the administrator's kubeconfig [default: /etc/combo/combo.yaml]
    #[arg(
        help_heading = "Kubeconfig",
        long,
        short = 'o',
        env = "COMBO_KUBECONFIG_OUTPUT",
        value_name = "FILE"
    )]
    pub write_kubeconfig: Option<PathBuf>,

    /// Mode of that file, octal [default: 600]
    #[arg(
        help_heading = "Kubeconfig",
        long,
        env = "COMBO_KUBECONFIG_MODE",
        value_name = "MODE"
    )]
    pub write_kubeconfig_mode: Option<String>,

    /// Password of servers, who may do everything [default: made at the first start]
    #[arg(
        help_heading = "Joining",
        long,
        short = 't',
        env = "COMBO_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    pub token: Option<String>,

    /// File with that password
    #[arg(
        help_heading = "Joining",
        long,
        env = "COMBO_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token"
    )]
    pub token_file: Option<PathBuf>,

    /// Password that agents join with, and can do nothing else [default: made at the first start]
    #[arg(
        help_heading = "Joining",
        long,
        env = "COMBO_AGENT_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        conflicts_with = "agent_token_file"
    )]
    pub agent_token: Option<String>,

    /// File with that password
    #[arg(
        help_heading = "Joining",
        long,
        env = "COMBO_AGENT_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "agent_token"
    )]
    pub agent_token_file: Option<PathBuf>,

    /// How long the certificates of this server and of nodes live; they are renewed while it runs
    /// [default: 8760h]
    #[arg(
        help_heading = "Joining",
        long,
        env = "COMBO_CERTIFICATE_DURATION",
        value_name = "DURATION"
    )]
    pub certificate_duration: Option<String>,

    /// Addresses of pods: one range, or one IPv4 and one IPv6 range, for ever
    /// [default: 10.42.0.0/16]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_CLUSTER_CIDR",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub cluster_cidr: Vec<String>,

    /// Addresses of Services, of the same families [default: 10.43.0.0/16]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_SERVICE_CIDR",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub service_cidr: Vec<String>,

    /// Prefix length of a node's share of the pod addresses [default: 24, for IPv6 64]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_NODE_CIDR_MASK_SIZE",
        value_name = "BITS"
    )]
    pub node_cidr_mask_size: Option<u8>,

    /// The same of the IPv4 range, in a cluster with two [default: 24]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_NODE_CIDR_MASK_SIZE_IPV4",
        value_name = "BITS"
    )]
    pub node_cidr_mask_size_ipv4: Option<u8>,

    /// The same of the IPv6 range, in a cluster with two [default: 64]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_NODE_CIDR_MASK_SIZE_IPV6",
        value_name = "BITS"
    )]
    pub node_cidr_mask_size_ipv6: Option<u8>,

    /// How pods of different nodes reach each other: vxlan, host-gw, wireguard-native or none
    /// [default: vxlan]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_FLANNEL_BACKEND",
        value_name = "BACKEND"
    )]
    pub flannel_backend: Option<String>,

    /// Ports that NodePort Services may have [default: 30000-32767]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_SERVICE_NODE_PORT_RANGE",
        value_name = "FROM-TO"
    )]
    pub service_node_port_range: Option<String>,

    /// Address of the cluster's DNS Service [default: the tenth of the service CIDR]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_CLUSTER_DNS",
        value_name = "ADDRESS"
    )]
    pub cluster_dns: Option<IpAddr>,

    /// The cluster's DNS domain [default: cluster.local]
    #[arg(
        help_heading = "Network",
        long,
        env = "COMBO_CLUSTER_DOMAIN",
        value_name = "DOMAIN"
    )]
    pub cluster_domain: Option<String>,

    /// Enforce no network policies on this node, and take away the rules for those it enforced
    #[arg(help_heading = "Network", long, env = "COMBO_DISABLE_NETWORK_POLICY")]
    pub disable_network_policy: bool,

    /// Private key that signs service account tokens, in PEM: RSA, or ECDSA on P-256 or P-384
    /// [default: an ECDSA key made at the first start]
    #[arg(
        help_heading = "Service accounts",
        long,
        env = "COMBO_SERVICE_ACCOUNT_SIGNING_KEY_FILE",
        value_name = "FILE"
    )]
    pub service_account_signing_key_file: Option<PathBuf>,

    /// Keys that service account tokens are checked with, in PEM; may be repeated, and a file may
    /// hold several. The key that signs is always among them [default: only that one]
    #[arg(
        help_heading = "Service accounts",
        long,
        env = "COMBO_SERVICE_ACCOUNT_KEY_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub service_account_key_file: Vec<PathBuf>,

    /// Issuer of service account tokens; of several the first issues, and all are believed
    /// [default: https://kubernetes.default.svc.<cluster domain>]
    #[arg(
        help_heading = "Service accounts",
        long,
        env = "COMBO_SERVICE_ACCOUNT_ISSUER",
        value_name = "ISSUER",
        value_delimiter = ','
    )]
    pub service_account_issuer: Vec<String>,

    /// Built-in services to leave out: coredns, servicelb; may be repeated
    #[arg(
        help_heading = "Components",
        long,
        env = "COMBO_DISABLE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub disable: Vec<String>,

    /// Let nodes pull images from each other before they ask a registry
    #[arg(help_heading = "Components", long, env = "COMBO_EMBEDDED_REGISTRY")]
    pub embedded_registry: bool,

    /// Run no node, only the control plane
    #[arg(help_heading = "Components", long, env = "COMBO_DISABLE_AGENT")]
    pub disable_agent: bool,

    /// Run no controllers
    #[arg(
        help_heading = "Components",
        long,
        env = "COMBO_DISABLE_CONTROLLER_MANAGER"
    )]
    pub disable_controller_manager: bool,

    /// How long a node may give no sign of life until it counts as lost; pods leave it when their
    /// tolerations run out, unless it is labelled combo.io/autonomy=true [default: 50s]
    #[arg(
        help_heading = "Components",
        long,
        env = "COMBO_NODE_MONITOR_GRACE_PERIOD",
        value_name = "DURATION"
    )]
    pub node_monitor_grace_period: Option<String>,

    /// Run no scheduler
    #[arg(help_heading = "Components", long, env = "COMBO_DISABLE_SCHEDULER")]
    pub disable_scheduler: bool,

    /// How large the store may be, in bytes: from there on it takes deletes only, until somebody
    /// makes room and clears the alarm (`combo db disarm`); below 0: as large as the disk
    /// [default: 2147483648]
    #[arg(
        help_heading = "Datastore",
        long,
        env = "COMBO_QUOTA_BACKEND_BYTES",
        value_name = "BYTES",
        allow_negative_numbers = true
    )]
    pub quota_backend_bytes: Option<i64>,

    #[command(flatten)]
    pub datastore: DatastoreFlags,

    #[command(flatten)]
    pub snapshots: SnapshotFlags,

    #[command(flatten)]
    pub node: NodeFlags,
}
