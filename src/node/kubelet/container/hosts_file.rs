//! The `/etc/hosts` of a pod, and the names it goes by.

use std::fmt::Write;
use std::net::IpAddr;

use apimachinery::dns1123_label_error;
use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::container::{Result, refuse};
use crate::pods::facts::{name, namespace, spec};

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";
const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
/// The kernel keeps 64 bytes with the final zero.
const HOSTNAME_BYTES_MAX: usize = 63;

/// Host name and domain of a pod; the domain is empty without a subdomain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodNames {
    pub(crate) hostname: String,
    pub(crate) domain: String,
}

pub(crate) fn pod_names(pod: &Pod, cluster_domain: &str) -> Result<PodNames> {
    let spec = spec(pod);
    if let Some(own) = spec.hostname_override.as_deref() {
        return Ok(PodNames {
            hostname: truncate(own),
            domain: String::new(),
        });
    }
    let hostname = spec
        .hostname
        .as_deref()
        .filter(|hostname| !hostname.is_empty());
    if let Some(why) = hostname.and_then(dns1123_label_error) {
        return refuse(format!(
            "pod Hostname {:?} is not a valid DNS label: {why}",
            hostname.unwrap_or_default()
        ));
    }
    let subdomain = spec
        .subdomain
        .as_deref()
        .filter(|subdomain| !subdomain.is_empty());
    if let Some(why) = subdomain.and_then(dns1123_label_error) {
        return refuse(format!(
            "pod Subdomain {:?} is not a valid DNS label: {why}",
            subdomain.unwrap_or_default()
        ));
    }
    let domain =
        subdomain.map(|subdomain| format!("{subdomain}.{}.svc.{cluster_domain}", namespace(pod)));
    Ok(PodNames {
        hostname: truncate(hostname.unwrap_or(name(pod))),
        domain: domain.unwrap_or_default(),
    })
}

/// What `hostname` prints inside: the fully qualified name if the pod asks for it and it fits.
pub(crate) fn kernel_hostname(pod: &Pod, names: &PodNames) -> Result<String> {
    if spec(pod).set_hostname_as_fqdn != Some(true) || names.domain.is_empty() {
        return Ok(names.hostname.clone());
    }
    let full = format!("{}.{}", names.hostname, names.domain);
    if full.len() > HOSTNAME_BYTES_MAX + 1 {
        return refuse(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({} characters is the max, {} characters requested)",
            HOSTNAME_BYTES_MAX + 1,
            full.len()
        ));
    }
    Ok(full)
}

/// The file for a pod with a network of its own.
pub(crate) fn pod_hosts_file(
    addresses: &[IpAddr],
    names: &PodNames,
    aliases: &[HostAlias],
) -> String {
    let mut file = format!("{HEADER}{LOCAL}");
    for address in addresses {
        let PodNames { hostname, domain } = names;
        let line = if domain.is_empty() {
            format!("{address}\t{hostname}\n")
        } else {
            format!("{address}\t{hostname}.{domain}\t{hostname}\n")
        };
        file.push_str(&line);
    }
    file.push_str(&alias_lines(aliases));
    file
}

/// The file for a pod on the host's network.
pub(crate) fn host_network_hosts_file(of_the_node: &str, aliases: &[HostAlias]) -> String {
    format!("{HEADER_HOST_NETWORK}{of_the_node}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    let mut lines = String::new();
    if !aliases.is_empty() {
        lines.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        // Writing to a String cannot fail.
        let _written = writeln!(lines, "{}\t{names}", alias.ip);
    }
    lines
}

fn truncate(hostname: &str) -> String {
    let cut = hostname.get(..HOSTNAME_BYTES_MAX).unwrap_or(hostname);
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_pod_with_its_domain_and_its_aliases() {
        let names = PodNames {
            hostname: "a".into(),
            domain: "b.n.svc.cluster.local".into(),
        };
        let alias = HostAlias {
            ip: "1.2.3.4".into(),
            hostnames: Some(vec!["x".into(), "y".into()]),
        };
        let file = pod_hosts_file(&[IpAddr::from([10, 0, 0, 1])], &names, &[alias]);
        assert!(file.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(
            file.ends_with("10.0.0.1\ta.b.n.svc.cluster.local\ta\n\n# Entries added by HostAliases.\n1.2.3.4\tx\ty\n")
        );
    }
}
