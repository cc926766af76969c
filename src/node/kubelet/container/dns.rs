//! The `/etc/resolv.conf` of a pod from its policy, its own settings and the node's file.

use cri::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};
use std::net::IpAddr;

use crate::pods::facts::{is_host_network, namespace, spec};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;
const NAME_BYTES_MAX: usize = 253;
const OPTIONS: &str = "ndots:5";

/// A pod's resolver configuration and what the user should know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodDns {
    pub(crate) config: DnsConfig,
    /// Reason and text of warning Events.
    pub(crate) warnings: Vec<(&'static str, String)>,
}

pub(crate) fn pod_dns(
    pod: &Pod,
    node: &DnsConfig,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
) -> PodDns {
    let mut warnings = Vec::new();
    let mut config = match policy(pod) {
        Policy::None => DnsConfig::default(),
        Policy::Cluster if !cluster_dns.is_empty() => {
            let namespace = namespace(pod);
            let cluster = [
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            DnsConfig {
                servers: cluster_dns.iter().map(ToString::to_string).collect(),
                searches: unique(cluster.into_iter().chain(node.searches.iter().cloned())),
                options: vec![OPTIONS.to_owned()],
            }
        }
        Policy::Cluster => {
            let text = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
            warnings.push((
                "MissingClusterDNS",
                format!("pod: {:?}. {text}", crate::pods::facts::title(pod)),
            ));
            node.clone()
        }
        Policy::Node => node.clone(),
    };
    if let Some(own) = &spec(pod).dns_config {
        merge(&mut config, own);
    }
    fit(&mut config, &mut warnings);
    PodDns { config, warnings }
}

enum Policy {
    None,
    Cluster,
    Node,
}

fn policy(pod: &Pod) -> Policy {
    match spec(pod).dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Policy::None,
        "Default" => Policy::Node,
        "ClusterFirstWithHostNet" => Policy::Cluster,
        _ if is_host_network(pod) => Policy::Node,
        _ => Policy::Cluster,
    }
}

fn merge(config: &mut DnsConfig, own: &PodDNSConfig) {
    let more = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    config.servers = unique(
        std::mem::take(&mut config.servers)
            .into_iter()
            .chain(more(&own.nameservers)),
    );
    config.searches = unique(
        std::mem::take(&mut config.searches)
            .into_iter()
            .chain(more(&own.searches)),
    );
    for option in own.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        config
            .options
            .retain(|old| old.split(':').next() != Some(name));
        config.options.push(
            match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            },
        );
    }
}

fn fit(config: &mut DnsConfig, warnings: &mut Vec<(&'static str, String)>) {
    if config.servers.len() > NAMESERVERS_MAX {
        config.servers.truncate(NAMESERVERS_MAX);
        let line = config.servers.join(" ");
        warnings.push(("DNSConfigForming", format!("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}")));
    }
    let before = config.searches.len();
    config.searches.truncate(SEARCHES_MAX);
    config
        .searches
        .retain(|search| search.len() <= NAME_BYTES_MAX);
    while config.searches.join(" ").len() > SEARCH_BYTES_MAX {
        config.searches.pop();
    }
    if config.searches.len() < before {
        let line = config.searches.join(" ");
        warnings.push(("DNSConfigForming", format!("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}")));
    }
}

fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in names {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

/// Reads a resolv.conf(5).
pub(crate) fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text
        .lines()
        .map(|line| line.split(['#', ';']).next().unwrap_or_default())
    {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            // Later lines replace earlier ones; a final dot means nothing here.
            Some("search" | "domain") => {
                config.searches = words
                    .map(|word| {
                        if word == "." {
                            word
                        } else {
                            word.trim_end_matches('.')
                        }
                        .to_owned()
                    })
                    .collect();
            }
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(spec: serde_json::Value) -> DnsConfig {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": spec})).unwrap();
        let node = parse_resolv_conf("nameserver 9.9.9.9\nsearch example.org.\noptions edns0\n");
        pod_dns(
            &pod,
            &node,
            &[IpAddr::from([10, 43, 0, 10])],
            "cluster.local",
        )
        .config
    }

    #[test]
    fn cluster_first_asks_the_cluster_and_searches_it_before_the_nodes_domains() {
        let config = made(json!({"containers": []}));
        assert_eq!(config.servers, ["10.43.0.10"]);
        assert_eq!(
            config.searches,
            [
                "n.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local",
                "example.org"
            ]
        );
        assert_eq!(config.options, ["ndots:5"]);
    }

    #[test]
    fn policy_none_has_only_what_the_pod_says_and_host_network_the_nodes() {
        let own = made(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"],
            "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
        );
        assert_eq!(
            (own.servers, own.searches),
            (vec!["1.1.1.1".to_owned()], vec!["a.b".to_owned()])
        );
        assert_eq!(own.options, ["ndots:2", "edns0"]);
        assert_eq!(
            made(json!({"containers": [], "hostNetwork": true})).servers,
            ["9.9.9.9"]
        );
    }
}
