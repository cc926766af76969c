//! What holds for a server, after everything said was put together and checked.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::{ServerFlags, ServiceAccountConfig};

pub const DEFAULT_CONFIG_FILE: &str = "/etc/combo/config.yaml";
const DEFAULT_DATA_DIR: &str = "/var/lib/combo";
const DEFAULT_KUBECONFIG: &str = "/etc/combo/combo.yaml";
const DEFAULT_HTTPS_PORT: u16 = 6443;
const DEFAULT_KUBELET_PORT: u16 = 10250;
const DEFAULT_CLUSTER_CIDR: &str = "10.42.0.0/16";
const DEFAULT_SERVICE_CIDR: &str = "10.43.0.0/16";
const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";
const DEFAULT_NODE_PORTS: RangeInclusive<u16> = 30000..=32767;
/// The cluster's DNS Service has this address in the service CIDR, counted from its first.
const DNS_ADDRESS_INDEX: usize = 10;
/// A smaller service CIDR would not hold the DNS Service.
const SERVICE_PREFIX_MAX: u8 = 28;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("--{flag} {value:?} is not valid: {why}")]
    Flag {
        flag: &'static str,
        value: String,
        why: String,
    },
}

/// Everything about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    pub data_dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub kubeconfig_mode: u32,
    pub https_listen_port: u16,
    pub bind_address: IpAddr,
    pub advertise_address: Option<IpAddr>,
    pub tls_san: Vec<String>,
    pub token: Option<String>,
    pub cluster_cidr: IpNet,
    pub service_cidr: IpNet,
    pub node_ports: RangeInclusive<u16>,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub service_accounts: ServiceAccountConfig,
    /// Whether requests without credentials are answered.
    pub serves_anonymous: bool,
    /// `None`: the control plane alone.
    pub node: Option<NodeConfig>,
    pub runs_controllers: bool,
    pub runs_scheduler: bool,
}

/// Everything about the node in a server's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub name: String,
    pub address: Option<IpAddr>,
    pub labels: Vec<(String, String)>,
    /// `key=value:effect`, checked.
    pub taints: Vec<String>,
    pub kubelet_port: u16,
}

impl ServerConfig {
    /// What `said` means on a host of this name.
    pub fn from_flags(said: ServerFlags, host_name: &str) -> Result<Self, ConfigError> {
        let service_cidr = cidr(
            "service-cidr",
            said.service_cidr.as_deref().unwrap_or(DEFAULT_SERVICE_CIDR),
        )?;
        if service_cidr.max_prefix_len() - service_cidr.prefix_len() < 32 - SERVICE_PREFIX_MAX {
            return Err(invalid(
                "service-cidr",
                service_cidr,
                "it has too few addresses; /28 is the smallest",
            ));
        }
        let cluster_cidr = cidr(
            "cluster-cidr",
            said.cluster_cidr.as_deref().unwrap_or(DEFAULT_CLUSTER_CIDR),
        )?;
        if cluster_cidr.contains(&service_cidr) || service_cidr.contains(&cluster_cidr) {
            return Err(invalid(
                "service-cidr",
                service_cidr,
                &format!("it overlaps --cluster-cidr {cluster_cidr}"),
            ));
        }
        let cluster_dns = said
            .cluster_dns
            .unwrap_or_else(|| nth_address(&service_cidr, DNS_ADDRESS_INDEX));
        if !service_cidr.contains(&cluster_dns) {
            return Err(invalid(
                "cluster-dns",
                cluster_dns,
                &format!("it is not in --service-cidr {service_cidr}"),
            ));
        }
        let node = if said.disable_agent {
            None
        } else {
            Some(node(&said, host_name)?)
        };
        let cluster_domain = domain(said.cluster_domain.as_deref())?;
        let service_accounts = ServiceAccountConfig::from_flags(&said, &cluster_domain)?;
        Ok(Self {
            data_dir: absolute(said.data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into())),
            kubeconfig: absolute(
                said.write_kubeconfig
                    .unwrap_or_else(|| DEFAULT_KUBECONFIG.into()),
            ),
            kubeconfig_mode: mode(said.write_kubeconfig_mode.as_deref())?,
            https_listen_port: said.https_listen_port.unwrap_or(DEFAULT_HTTPS_PORT),
            bind_address: said
                .bind_address
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            advertise_address: said.advertise_address,
            tls_san: said.tls_san,
            token: said.token,
            cluster_cidr,
            service_cidr,
            node_ports: node_ports(said.service_node_port_range.as_deref())?,
            cluster_dns,
            cluster_domain,
            service_accounts,
            serves_anonymous: said.anonymous_auth.unwrap_or(false),
            node,
            runs_controllers: !said.disable_controller_manager,
            runs_scheduler: !said.disable_scheduler,
        })
    }
}

pub(crate) fn invalid(flag: &'static str, value: impl ToString, why: &str) -> ConfigError {
    ConfigError::Flag {
        flag,
        value: value.to_string(),
        why: why.to_owned(),
    }
}

pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn cidr(flag: &'static str, text: &str) -> Result<IpNet, ConfigError> {
    if text.contains(',') {
        return Err(invalid(
            flag,
            text,
            "two address families are not supported",
        ));
    }
    let network: IpNet = text
        .parse()
        .map_err(|_error| invalid(flag, text, "it is no CIDR such as 10.42.0.0/16"))?;
    if network.trunc() != network {
        return Err(invalid(
            flag,
            text,
            &format!(
                "its address has bits behind the prefix; {} is meant",
                network.trunc()
            ),
        ));
    }
    Ok(network)
}

fn nth_address(network: &IpNet, index: usize) -> IpAddr {
    match network.network() {
        IpAddr::V4(first) => {
            IpAddr::V4((u32::from(first) + u32::try_from(index).unwrap_or(0)).into())
        }
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) + index as u128).into()),
    }
}

fn mode(text: Option<&str>) -> Result<u32, ConfigError> {
    let text = text.unwrap_or("600");
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| {
            invalid(
                "write-kubeconfig-mode",
                text,
                "it is no octal mode such as 600",
            )
        })
}

fn node_ports(text: Option<&str>) -> Result<RangeInclusive<u16>, ConfigError> {
    let Some(text) = text else {
        return Ok(DEFAULT_NODE_PORTS);
    };
    let bounds = text
        .split_once('-')
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match bounds {
        Some((from, to)) if from > 0 && from <= to => Ok(from..=to),
        _ => Err(invalid(
            "service-node-port-range",
            text,
            "it is no range such as 30000-32767",
        )),
    }
}

fn domain(said: Option<&str>) -> Result<String, ConfigError> {
    let domain = said.unwrap_or(DEFAULT_CLUSTER_DOMAIN);
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if domain.split('.').all(is_label) {
        return Ok(domain.to_owned());
    }
    Err(invalid(
        "cluster-domain",
        domain,
        "it is no DNS domain in lower case",
    ))
}

fn node(said: &ServerFlags, host_name: &str) -> Result<NodeConfig, ConfigError> {
    let name = said
        .node_name
        .clone()
        .unwrap_or_else(|| host_name.to_lowercase());
    let is_good = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && label.bytes().next().is_some_and(|first| first != b'-')
                && !label.ends_with('-')
        });
    if !is_good {
        return Err(invalid(
            "node-name",
            name,
            "a node's name is a DNS name in lower case",
        ));
    }
    Ok(NodeConfig {
        name,
        address: said.node_ip,
        labels: said
            .node_label
            .iter()
            .map(|label| key_value(label))
            .collect::<Result<_, _>>()?,
        taints: said
            .node_taint
            .iter()
            .map(|taint| checked_taint(taint))
            .collect::<Result<_, _>>()?,
        kubelet_port: said.kubelet_port.unwrap_or(DEFAULT_KUBELET_PORT),
    })
}

fn key_value(label: &str) -> Result<(String, String), ConfigError> {
    let (key, value) = label
        .split_once('=')
        .ok_or_else(|| invalid("node-label", label, "it is no KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn checked_taint(taint: &str) -> Result<String, ConfigError> {
    let effect = taint.rsplit_once(':').map(|(_, effect)| effect);
    match effect {
        Some("NoSchedule" | "PreferNoSchedule" | "NoExecute") => Ok(taint.to_owned()),
        _ => Err(invalid(
            "node-taint",
            taint,
            "it is no KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute",
        )),
    }
}

/// The default config file, if there is one.
impl ServerConfig {
    pub fn default_file() -> Option<&'static Path> {
        let path = Path::new(DEFAULT_CONFIG_FILE);
        path.exists().then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_first_wins_and_defaults_fill_the_rest() {
        let flag = ServerFlags {
            https_listen_port: Some(7443),
            ..ServerFlags::default()
        };
        let file: ServerFlags =
            serde_saphyr::from_str("https-listen-port: 1\nnode-name: a\ntls-san: x,y\n")
                .expect("a file");
        let config = ServerConfig::from_flags(flag.or(file), "HOST").expect("a config");
        assert_eq!(config.https_listen_port, 7443);
        assert_eq!(config.tls_san, ["x", "y"]);
        assert_eq!(config.node.map(|node| node.name), Some("a".to_owned()));
        assert_eq!(config.cluster_dns, IpAddr::from([10, 43, 0, 10]));
    }

    #[test]
    fn only_who_asks_for_it_serves_requests_without_credentials() {
        for (file, serves) in [
            ("", false),
            ("anonymous-auth: false", false),
            ("anonymous-auth: true", true),
        ] {
            let said: ServerFlags = match file {
                "" => ServerFlags::default(),
                file => serde_saphyr::from_str(file).expect("a file"),
            };
            let config = ServerConfig::from_flags(said, "host").expect("a config");
            assert_eq!(config.serves_anonymous, serves, "{file}");
        }
    }

    #[test]
    fn a_wrong_value_names_its_flag() {
        for (flags, flag) in [
            (
                ServerFlags {
                    service_cidr: Some("10.43.0.1/16".into()),
                    ..ServerFlags::default()
                },
                "service-cidr",
            ),
            (
                ServerFlags {
                    cluster_dns: Some([1, 2, 3, 4].into()),
                    ..ServerFlags::default()
                },
                "cluster-dns",
            ),
            (
                ServerFlags {
                    node_name: Some("A_b".into()),
                    ..ServerFlags::default()
                },
                "node-name",
            ),
            (
                ServerFlags {
                    service_node_port_range: Some("9-8".into()),
                    ..ServerFlags::default()
                },
                "service-node-port-range",
            ),
        ] {
            let error = ServerConfig::from_flags(flags, "host").expect_err("refused");
            assert!(
                matches!(error, ConfigError::Flag { flag: named, .. } if named == flag),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unknown_name_in_the_file_is_refused() {
        assert!(serde_saphyr::from_str::<ServerFlags>("nope: 1\n").is_err());
    }
}
