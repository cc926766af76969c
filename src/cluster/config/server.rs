//! What holds for a server, after everything said was put together and checked.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::built_in::{BuiltIn, disabled};
use crate::error::invalid;
use crate::paths::{DEFAULT_KUBECONFIG, absolute, data_dir};
use crate::token::{TokenFlags, password};
use crate::{
    ConfigError, DatastoreConfig, NetworkConfig, NodeConfig, S3Flags, ServerFlags,
    ServiceAccountConfig, SnapshotConfig, SnapshotFlags,
};

const DEFAULT_HTTPS_PORT: u16 = 6443;
const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";
const DEFAULT_NODE_PORTS: RangeInclusive<u16> = 30000..=32767;
/// The cluster's DNS Service has this address in the service CIDR, counted from its first.
const DNS_ADDRESS_INDEX: usize = 10;
const DEFAULT_CERTIFICATE_LIFE: Duration = Duration::from_secs(8760 * 3600);
/// Shorter, a node would do nothing but renew.
const CERTIFICATE_LIFE_MIN: Duration = Duration::from_secs(60);
/// An authority lives ten years, and nothing that it signs lives longer.
const CERTIFICATE_LIFE_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Nodes give a sign of life every ten seconds, and one can be lost on its way.
const NODE_MONITOR_GRACE_MIN: Duration = Duration::from_secs(20);
/// Longer, and a lost node is never noticed.
const NODE_MONITOR_GRACE_MAX: Duration = Duration::from_hours(24);

/// etcd's.
const DEFAULT_STORE_BYTES_MAX: i64 = 2 << 30;
/// What every cluster has takes a part of this.
const STORE_BYTES_MIN: u64 = 16 << 20;

/// Everything about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    pub data_dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub kubeconfig_mode: u32,
    pub https_listen_port: u16,
    pub bind_address: IpAddr,
    /// Where the store is served behind etcd's API, if at all.
    pub etcd_listen: Option<SocketAddr>,
    pub advertise_address: Option<IpAddr>,
    pub tls_san: Vec<String>,
    /// The password of servers; `None`: the one in the data folder.
    pub token: Option<String>,
    /// The password of agents; `None`: the one in the data folder.
    pub agent_token: Option<String>,
    pub certificate_life: Duration,
    pub network: NetworkConfig,
    pub node_ports: RangeInclusive<u16>,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub service_accounts: ServiceAccountConfig,
    /// Whether requests without credentials are answered.
    pub serves_anonymous: bool,
    /// `None`: the control plane alone.
    pub node: Option<NodeConfig>,
    pub enforces_network_policies: bool,
    /// Whether nodes pull images from each other.
    pub shares_images: bool,
    /// Built-in services that do not run.
    pub disabled: BTreeSet<BuiltIn>,
    pub runs_controllers: bool,
    /// How long a node may be silent until it counts as lost, if somebody chose.
    pub node_monitor_grace: Option<Duration>,
    pub runs_scheduler: bool,
    /// `None`: the store in the data folder.
    pub datastore: Option<DatastoreConfig>,
    /// How large the store in the data folder may be; `None`: as large as the disk.
    pub store_bytes_max: Option<u64>,
    /// `None`: it takes no snapshots by itself.
    pub snapshots: Option<SnapshotConfig>,
}

impl ServerConfig {
    /// What `said` means on a host of this name.
    pub fn from_flags(said: ServerFlags, host_name: &str) -> Result<Self, ConfigError> {
        let network = NetworkConfig::from_flags(&said)?;
        let service_cidr = network.service_cidr();
        let cluster_dns = cluster_dns(said.cluster_dns, &service_cidr)?;
        let node = if said.disable_agent {
            None
        } else {
            Some(NodeConfig::from_flags(&said.node, host_name)?)
        };
        let token = password(&TokenFlags {
            flag: "token",
            token: said.token.as_deref(),
            file_flag: "token-file",
            file: said.token_file.as_deref(),
        })?;
        let agent_token = password(&TokenFlags {
            flag: "agent-token",
            token: said.agent_token.as_deref(),
            file_flag: "agent-token-file",
            file: said.agent_token_file.as_deref(),
        })?;
        let datastore = DatastoreConfig::from_flags(said.datastore.clone())?;
        if datastore.is_some() {
            check_beside_datastore(said.etcd_listen.as_deref(), &said.snapshots)?;
            check_no_quota(said.quota_backend_bytes)?;
        }
        let cluster_domain = domain(said.cluster_domain.as_deref())?;
        let service_accounts = ServiceAccountConfig::from_flags(&said, &cluster_domain)?;
        Ok(Self {
            data_dir: data_dir(said.general.data_dir),
            kubeconfig: absolute(
                said.write_kubeconfig
                    .unwrap_or_else(|| DEFAULT_KUBECONFIG.into()),
            ),
            kubeconfig_mode: mode(said.write_kubeconfig_mode.as_deref())?,
            https_listen_port: said.https_listen_port.unwrap_or(DEFAULT_HTTPS_PORT),
            bind_address: said
                .bind_address
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            etcd_listen: etcd_listen(said.etcd_listen.as_deref())?,
            advertise_address: said.advertise_address,
            tls_san: said.tls_san,
            token,
            agent_token,
            certificate_life: certificate_life(said.certificate_duration.as_deref())?,
            network,
            node_ports: node_ports(said.service_node_port_range.as_deref())?,
            cluster_dns,
            cluster_domain,
            service_accounts,
            serves_anonymous: said.anonymous_auth.unwrap_or(false),
            node,
            enforces_network_policies: !said.disable_network_policy,
            shares_images: said.embedded_registry,
            disabled: disabled(&said.disable)?,
            runs_controllers: !said.disable_controller_manager,
            node_monitor_grace: node_monitor_grace(said.node_monitor_grace_period.as_deref())?,
            runs_scheduler: !said.disable_scheduler,
            store_bytes_max: store_bytes_max(said.quota_backend_bytes)?,
            snapshots: match datastore {
                Some(_) => None,
                None => SnapshotConfig::from_flags(said.snapshots)?,
            },
            datastore,
        })
    }
}

/// What is of the store in the data folder has no meaning beside another one.
fn check_beside_datastore(
    etcd_listen: Option<&str>,
    snapshots: &SnapshotFlags,
) -> Result<(), ConfigError> {
    if let Some(address) = etcd_listen {
        let why =
            "with --datastore-endpoint the store is an etcd cluster: its clients connect there";
        return Err(invalid("etcd-listen", address, why));
    }
    let takes_none = SnapshotFlags {
        etcd_disable_snapshots: snapshots.etcd_disable_snapshots,
        // Keys stand in the environment for other programs, too.
        s3: S3Flags {
            etcd_s3: false,
            ..snapshots.s3.clone()
        },
        ..SnapshotFlags::default()
    };
    if *snapshots != takes_none {
        return Err(ConfigError::Conflict {
            flag: "etcd-snapshot-*",
            why: "an etcd cluster, --datastore-endpoint, is copied by its own tools: `etcdctl snapshot save`",
        });
    }
    Ok(())
}

fn cluster_dns(said: Option<IpAddr>, service_cidr: &IpNet) -> Result<IpAddr, ConfigError> {
    let address = said.unwrap_or_else(|| nth_address(service_cidr, DNS_ADDRESS_INDEX));
    if service_cidr.contains(&address) {
        return Ok(address);
    }
    Err(invalid(
        "cluster-dns",
        address,
        &format!("it is not in --service-cidr {service_cidr}"),
    ))
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

/// A port on loopback, or an address and a port.
fn etcd_listen(said: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = said else { return Ok(None) };
    let address = match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => text.parse(),
    };
    match address {
        Ok(address) if address.port() != 0 => Ok(Some(address)),
        _ => Err(invalid(
            "etcd-listen",
            text,
            "give a port, such as 2379, or an address and a port, such as 127.0.0.1:2379 or [::1]:2379",
        )),
    }
}

fn check_no_quota(said: Option<i64>) -> Result<(), ConfigError> {
    match said {
        None => Ok(()),
        Some(_) => Err(ConfigError::Conflict {
            flag: "quota-backend-bytes",
            why: "an etcd cluster, --datastore-endpoint, has a flag of this name itself",
        }),
    }
}

/// As etcd reads its flag of this name: 0 is the default, and what is below is no limit.
fn store_bytes_max(said: Option<i64>) -> Result<Option<u64>, ConfigError> {
    let bytes = said.filter(|bytes| *bytes != 0);
    let bytes = bytes.unwrap_or(DEFAULT_STORE_BYTES_MAX);
    let Ok(bytes) = u64::try_from(bytes) else {
        return Ok(None);
    };
    if bytes < STORE_BYTES_MIN {
        return Err(invalid(
            "quota-backend-bytes",
            bytes,
            "a cluster does not fit: 16777216 is the least",
        ));
    }
    Ok(Some(bytes))
}

fn certificate_life(said: Option<&str>) -> Result<Duration, ConfigError> {
    let Some(text) = said else {
        return Ok(DEFAULT_CERTIFICATE_LIFE);
    };
    let refused = |why: &str| Err(invalid("certificate-duration", text, why));
    let Some(life) = duration(text) else {
        return refused("it is no duration such as 8760h or 30m");
    };
    if life < CERTIFICATE_LIFE_MIN {
        return refused("a minute, 1m, is the shortest");
    }
    if life > CERTIFICATE_LIFE_MAX {
        return refused("ten years, 87600h, is the longest, as long as an authority lives");
    }
    Ok(life)
}

fn node_monitor_grace(said: Option<&str>) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = said else {
        return Ok(None);
    };
    let span = duration(text)
        .filter(|span| (NODE_MONITOR_GRACE_MIN..=NODE_MONITOR_GRACE_MAX).contains(span));
    let why = "it is no duration such as 50s, from 20s, two signs of life of a node, to 24h";
    match span {
        Some(span) => Ok(Some(span)),
        None => Err(invalid("node-monitor-grace-period", text, why)),
    }
}

/// Reads Go's form; none is negative here.
fn duration(text: &str) -> Option<Duration> {
    let nanos = schema::parse_duration(text).ok()?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_store_is_said_as_to_etcd() {
        let read = |said: Option<i64>| {
            let said = ServerFlags {
                quota_backend_bytes: said,
                ..ServerFlags::default()
            };
            ServerConfig::from_flags(said, "host").map(|config| config.store_bytes_max)
        };
        for (said, expected) in [
            (None, Some(2 << 30)),
            (Some(0), Some(2 << 30)),
            (Some(-1), None),
            (Some(100_000_000), Some(100_000_000)),
        ] {
            assert_eq!(read(said).ok(), Some(expected), "{said:?}");
        }
        assert!(read(Some(1000)).is_err());
    }

    #[test]
    fn a_port_alone_for_etcds_clients_is_one_on_loopback() {
        let listen = |text: &str| {
            let etcd_listen = Some(text.to_owned());
            let said = ServerFlags {
                etcd_listen,
                ..ServerFlags::default()
            };
            ServerConfig::from_flags(said, "host").map(|config| config.etcd_listen)
        };
        let address = |text: &str| Ok(text.parse().ok());
        assert_eq!(listen("2379"), address("127.0.0.1:2379"));
        assert_eq!(listen("[::1]:2379"), address("[::1]:2379"));
        for wrong in ["0", "localhost:2379", "127.0.0.1", "127.0.0.1:0", "99999"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn defaults_fill_what_was_not_said() {
        let config = ServerConfig::from_flags(ServerFlags::default(), "HOST").expect("a config");
        assert_eq!(config.https_listen_port, 6443);
        assert_eq!(config.node.map(|node| node.name), Some("host".to_owned()));
        assert_eq!(config.cluster_dns, IpAddr::from([10, 43, 0, 10]));
        assert_eq!(config.certificate_life, DEFAULT_CERTIFICATE_LIFE);
        assert!(!config.serves_anonymous);
        assert!(config.disabled.is_empty());
    }

    #[test]
    fn a_full_token_gives_the_password_and_a_bootstrap_token_is_none() {
        let with = |token: &str| {
            let said = ServerFlags {
                token: Some(token.to_owned()),
                ..ServerFlags::default()
            };
            ServerConfig::from_flags(said, "host").map(|config| config.token)
        };
        let full = format!("K10{}::server:pass", "ab".repeat(32));
        assert_eq!(with(&full), Ok(Some("pass".to_owned())));
        assert_eq!(with("pass"), Ok(Some("pass".to_owned())));
        let error = with("abcdef.0123456789abcdef")
            .expect_err("refused")
            .to_string();
        assert!(error.contains("bootstrap token"), "{error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
    }

    #[test]
    fn certificates_live_between_a_minute_and_ten_years() {
        for (text, life) in [
            ("1m", Some(60)),
            ("8760h", Some(8760 * 3600)),
            ("1h30m", Some(5400)),
            ("59s", None),
            ("-1h", None),
            ("100000h", None),
            ("1d", None),
            ("", None),
        ] {
            let read = certificate_life(Some(text));
            assert_eq!(read.ok(), life.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_wrong_value_names_its_flag() {
        for (flags, flag) in [
            (
                ServerFlags {
                    service_cidr: vec!["10.43.0.1/16".into()],
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
                    disable: vec!["traefik".into()],
                    ..ServerFlags::default()
                },
                "disable",
            ),
            (
                ServerFlags {
                    node_monitor_grace_period: Some("5s".into()),
                    ..ServerFlags::default()
                },
                "node-monitor-grace-period",
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
}
