//! What a person may say about a server. Flag names are k3s' where the meaning is the same.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use crate::ConfigError;

/// Flags of `combo server`; the config file has the same names.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ServerFlags {
    /// Configuration file with the names of these flags [default: /etc/combo/config.yaml if it exists]
    #[arg(long, short = 'c', env = "COMBO_CONFIG_FILE", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Folder that holds all state [default: /var/lib/combo]
    #[arg(long, short = 'd', env = "COMBO_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where to write the administrator's kubeconfig [default: /etc/combo/combo.yaml]
    #[arg(
        long,
        short = 'o',
        env = "COMBO_KUBECONFIG_OUTPUT",
        value_name = "FILE"
    )]
    pub write_kubeconfig: Option<PathBuf>,

    /// Mode of that file, octal [default: 600]
    #[arg(long, env = "COMBO_KUBECONFIG_MODE", value_name = "MODE")]
    pub write_kubeconfig_mode: Option<String>,

    /// Port of the API server [default: 6443]
    #[arg(long, env = "COMBO_HTTPS_LISTEN_PORT", value_name = "PORT")]
    pub https_listen_port: Option<u16>,

    /// Address the API server listens on [default: 0.0.0.0]
    #[arg(long, env = "COMBO_BIND_ADDRESS", value_name = "ADDRESS")]
    pub bind_address: Option<IpAddr>,

    /// Address that others reach the API server at [default: the node's]
    #[arg(long, env = "COMBO_ADVERTISE_ADDRESS", value_name = "ADDRESS")]
    pub advertise_address: Option<IpAddr>,

    /// More names and addresses for the API server's certificate
    #[arg(
        long,
        env = "COMBO_TLS_SAN",
        value_name = "NAME",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub tls_san: Vec<String>,

    /// Shared secret that agents join with [default: made at the first start]
    #[arg(
        long,
        short = 't',
        env = "COMBO_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,

    /// Addresses of pods [default: 10.42.0.0/16]
    #[arg(long, env = "COMBO_CLUSTER_CIDR", value_name = "CIDR")]
    pub cluster_cidr: Option<String>,

    /// Addresses of Services [default: 10.43.0.0/16]
    #[arg(long, env = "COMBO_SERVICE_CIDR", value_name = "CIDR")]
    pub service_cidr: Option<String>,

    /// Ports that NodePort Services may have [default: 30000-32767]
    #[arg(long, env = "COMBO_SERVICE_NODE_PORT_RANGE", value_name = "FROM-TO")]
    pub service_node_port_range: Option<String>,

    /// Address of the cluster's DNS Service [default: the tenth of the service CIDR]
    #[arg(long, env = "COMBO_CLUSTER_DNS", value_name = "ADDRESS")]
    pub cluster_dns: Option<IpAddr>,

    /// The cluster's DNS domain [default: cluster.local]
    #[arg(long, env = "COMBO_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,

    /// Private key that signs service account tokens, in PEM: RSA, or ECDSA on P-256 or P-384
    /// [default: an ECDSA key made at the first start]
    #[arg(
        long,
        env = "COMBO_SERVICE_ACCOUNT_SIGNING_KEY_FILE",
        value_name = "FILE"
    )]
    pub service_account_signing_key_file: Option<PathBuf>,

    /// Keys that service account tokens are checked with, in PEM; may be repeated, and a file may
    /// hold several. The key that signs is always among them [default: only that one]
    #[arg(
        long,
        env = "COMBO_SERVICE_ACCOUNT_KEY_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub service_account_key_file: Vec<PathBuf>,

    /// Issuer of service account tokens; of several the first issues, and all are believed
    /// [default: https://kubernetes.default.svc.<cluster domain>]
    #[arg(
        long,
        env = "COMBO_SERVICE_ACCOUNT_ISSUER",
        value_name = "ISSUER",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub service_account_issuer: Vec<String>,

    /// Take requests without credentials as those of system:anonymous, who may what roles allow;
    /// otherwise they are refused on every path [default: false]
    #[arg(
        long,
        env = "COMBO_ANONYMOUS_AUTH",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub anonymous_auth: Option<bool>,

    /// Name of this node [default: the host's name, in lower case]
    #[arg(long, env = "COMBO_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Address of this node [default: the one with the default route]
    #[arg(long, short = 'i', env = "COMBO_NODE_IP", value_name = "ADDRESS")]
    pub node_ip: Option<IpAddr>,

    /// Labels that the node registers with
    #[arg(
        long,
        env = "COMBO_NODE_LABEL",
        value_name = "KEY=VALUE",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub node_label: Vec<String>,

    /// Taints that the node registers with
    #[arg(
        long,
        env = "COMBO_NODE_TAINT",
        value_name = "KEY=VALUE:EFFECT",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub node_taint: Vec<String>,

    /// Port of the kubelet's own API [default: 10250]
    #[arg(long, env = "COMBO_KUBELET_PORT", value_name = "PORT")]
    pub kubelet_port: Option<u16>,

    /// Run no node, only the control plane
    #[arg(long, env = "COMBO_DISABLE_AGENT")]
    pub disable_agent: bool,

    /// Run no controllers
    #[arg(long, env = "COMBO_DISABLE_CONTROLLER_MANAGER")]
    pub disable_controller_manager: bool,

    /// Run no scheduler
    #[arg(long, env = "COMBO_DISABLE_SCHEDULER")]
    pub disable_scheduler: bool,

    /// Log in more detail
    #[arg(long, env = "COMBO_DEBUG")]
    pub debug: bool,

    /// Form of the log: text or json [default: text]
    #[arg(long, env = "COMBO_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// In the config file a list may be one text; k3s reads it so.
fn one_or_many<'de, T: From<String>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let texts = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => text.split(',').map(str::to_owned).collect(),
        OneOrMany::Many(texts) => texts,
    };
    Ok(texts.into_iter().map(T::from).collect())
}

impl ServerFlags {
    /// Reads a config file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// What was said here, and `other`'s word where nothing was said.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            config: self.config.or(other.config),
            data_dir: self.data_dir.or(other.data_dir),
            write_kubeconfig: self.write_kubeconfig.or(other.write_kubeconfig),
            write_kubeconfig_mode: self.write_kubeconfig_mode.or(other.write_kubeconfig_mode),
            https_listen_port: self.https_listen_port.or(other.https_listen_port),
            bind_address: self.bind_address.or(other.bind_address),
            advertise_address: self.advertise_address.or(other.advertise_address),
            tls_san: list(self.tls_san, other.tls_san),
            token: self.token.or(other.token),
            cluster_cidr: self.cluster_cidr.or(other.cluster_cidr),
            service_cidr: self.service_cidr.or(other.service_cidr),
            service_node_port_range: self
                .service_node_port_range
                .or(other.service_node_port_range),
            cluster_dns: self.cluster_dns.or(other.cluster_dns),
            cluster_domain: self.cluster_domain.or(other.cluster_domain),
            service_account_signing_key_file: self
                .service_account_signing_key_file
                .or(other.service_account_signing_key_file),
            service_account_key_file: list(
                self.service_account_key_file,
                other.service_account_key_file,
            ),
            service_account_issuer: list(self.service_account_issuer, other.service_account_issuer),
            anonymous_auth: self.anonymous_auth.or(other.anonymous_auth),
            node_name: self.node_name.or(other.node_name),
            node_ip: self.node_ip.or(other.node_ip),
            node_label: list(self.node_label, other.node_label),
            node_taint: list(self.node_taint, other.node_taint),
            kubelet_port: self.kubelet_port.or(other.kubelet_port),
            disable_agent: self.disable_agent || other.disable_agent,
            disable_controller_manager: self.disable_controller_manager
                || other.disable_controller_manager,
            disable_scheduler: self.disable_scheduler || other.disable_scheduler,
            debug: self.debug || other.debug,
            log_format: self.log_format.or(other.log_format),
        }
    }
}

fn list<T>(mine: Vec<T>, theirs: Vec<T>) -> Vec<T> {
    if mine.is_empty() { theirs } else { mine }
}
