//! Addresses of pods and Services, and how nodes reach each other.

use controllers::{MaskSizes, NodeCidrs};
use ipnet::IpNet;
use pod_network::Backend;

use crate::error::invalid;
use crate::{ConfigError, ServerFlags};

const DEFAULT_CLUSTER_CIDR: &str = "10.42.0.0/16";
const DEFAULT_SERVICE_CIDR: &str = "10.43.0.0/16";
/// A smaller service CIDR would not hold the DNS Service.
const SERVICE_BITS_MIN: u8 = 4;

/// Everything about the cluster's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// One, or one of each address family; the first is the primary one.
    pub cluster_cidrs: Vec<IpNet>,
    /// As many, of the same families, in the same order.
    pub service_cidrs: Vec<IpNet>,
    /// How the cluster CIDRs are cut for nodes.
    pub node_cidrs: NodeCidrs,
    pub backend: Backend,
}

impl NetworkConfig {
    pub(crate) fn from_flags(said: &ServerFlags) -> Result<Self, ConfigError> {
        let cluster_cidrs = cidrs("cluster-cidr", &said.cluster_cidr, DEFAULT_CLUSTER_CIDR)?;
        let service_cidrs = cidrs("service-cidr", &said.service_cidr, DEFAULT_SERVICE_CIDR)?;
        check_services(&service_cidrs, &cluster_cidrs)?;
        let sizes = MaskSizes {
            only: said.node_cidr_mask_size,
            v4: said.node_cidr_mask_size_ipv4,
            v6: said.node_cidr_mask_size_ipv6,
        };
        let node_cidrs = NodeCidrs::new(&cluster_cidrs, sizes)
            .map_err(|error| invalid("cluster-cidr", joined(&cluster_cidrs), &error.to_string()))?;
        let backend = said.flannel_backend.as_deref();
        let backend = backend.map_or(Ok(Backend::default()), |text| {
            text.parse().map_err(|error: pod_network::UnknownBackend| {
                invalid("flannel-backend", text, &error.to_string())
            })
        })?;
        Ok(Self {
            cluster_cidrs,
            service_cidrs,
            node_cidrs,
            backend,
        })
    }

    /// The Service range that has the cluster's own Services.
    pub fn service_cidr(&self) -> IpNet {
        self.service_cidrs[0]
    }
}

fn check_services(services: &[IpNet], cluster: &[IpNet]) -> Result<(), ConfigError> {
    for range in services {
        if range.max_prefix_len() - range.prefix_len() < SERVICE_BITS_MIN {
            return Err(invalid(
                "service-cidr",
                range,
                "it has too few addresses; /28 or /124 is the smallest",
            ));
        }
        for other in cluster {
            if other.contains(range) || range.contains(other) {
                let why = format!("it overlaps --cluster-cidr {other}");
                return Err(invalid("service-cidr", range, &why));
            }
        }
    }
    let families = |ranges: &[IpNet]| -> Vec<bool> {
        ranges
            .iter()
            .map(|range| range.network().is_ipv4())
            .collect()
    };
    if families(services) == families(cluster) {
        return Ok(());
    }
    let why = "its address families are not those of --cluster-cidr, in the same order";
    Err(invalid("service-cidr", joined(services), why))
}

fn joined(ranges: &[IpNet]) -> String {
    let texts: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
    texts.join(",")
}

/// One range, or one of each address family.
fn cidrs(flag: &'static str, said: &[String], default: &str) -> Result<Vec<IpNet>, ConfigError> {
    if said.is_empty() {
        return Ok(vec![cidr(flag, default)?]);
    }
    let ranges = said.iter().map(|text| cidr(flag, text.trim()));
    let ranges: Vec<IpNet> = ranges.collect::<Result<_, _>>()?;
    match ranges[..] {
        [_] => Ok(ranges),
        [one, other] if one.network().is_ipv4() != other.network().is_ipv4() => Ok(ranges),
        _ => Err(invalid(
            flag,
            joined(&ranges),
            "there is one range, or one IPv4 and one IPv6 range",
        )),
    }
}

fn cidr(flag: &'static str, text: &str) -> Result<IpNet, ConfigError> {
    let network: IpNet = text
        .parse()
        .map_err(|_error| invalid(flag, text, "it is no CIDR such as 10.42.0.0/16"))?;
    if network.trunc() != network {
        let why = format!(
            "its address has bits behind the prefix; {} is meant",
            network.trunc()
        );
        return Err(invalid(flag, text, &why));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(cluster: &str, service: &str) -> Result<NetworkConfig, ConfigError> {
        NetworkConfig::from_flags(&ServerFlags {
            cluster_cidr: cluster.split(',').map(str::to_owned).collect(),
            service_cidr: service.split(',').map(str::to_owned).collect(),
            ..ServerFlags::default()
        })
    }

    #[test]
    fn two_families_are_told_with_a_comma_for_pods_and_for_services() {
        let network = network("10.42.0.0/16,fd42::/56", "10.43.0.0/16,fd43::/112").expect("both");
        assert_eq!(network.node_cidrs.first().len(), 2);
        assert_eq!(network.service_cidr().to_string(), "10.43.0.0/16");
    }

    #[test]
    fn ranges_that_do_not_go_together_are_refused() {
        for (cluster, service, why) in [
            ("10.42.0.0/16,fd42::/56", "10.43.0.0/16", "address families"),
            (
                "10.42.0.0/16,10.44.0.0/16",
                "10.43.0.0/16",
                "one IPv4 and one IPv6",
            ),
            ("10.42.0.0/16", "10.42.9.0/24", "overlaps"),
            ("10.42.0.0/16", "10.43.0.0/30", "too few"),
            ("10.42.0.0/16", "10.43.0.1/16", "bits behind the prefix"),
            ("fd42::/32", "fd43::/112", "--node-cidr-mask-size"),
        ] {
            let error = network(cluster, service).expect_err("refused");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_backend_that_is_not_there_is_refused_with_those_that_are() {
        let said = ServerFlags {
            flannel_backend: Some("ipsec".to_owned()),
            ..ServerFlags::default()
        };
        let error = NetworkConfig::from_flags(&said).expect_err("refused");
        assert!(error.to_string().contains("host-gw"), "{error}");
    }
}
