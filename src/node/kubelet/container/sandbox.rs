//! How the sandbox of a pod is made.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cri::{
    CgroupParent, DnsConfig, IdMapping, NamespaceMode, NamespaceOptions, PidMode, PodIdentity,
    PodSandboxConfig, PortMapping, Protocol, UserNamespace,
};
use k8s_openapi::api::core::v1::Pod;

use crate::config::Config;
use crate::container::hosts_file::{kernel_hostname, pod_names};
use crate::container::labels::{sandbox_annotations, sandbox_labels};
use crate::container::resources::{cri_qos, pod_resources};
use crate::container::{Result, refuse};
use crate::pods::facts::{
    containers, init_containers, is_host_network, name, namespace, spec, uid,
};

/// Sysctls that are namespaced and cannot harm other pods.
pub(crate) const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

pub(crate) fn sandbox_config(
    pod: &Pod,
    attempt: u32,
    dns: Option<DnsConfig>,
    user_namespace: Option<IdMapping>,
    config: &Config,
) -> Result<PodSandboxConfig> {
    let names = pod_names(pod, &config.cluster_domain)?;
    let mut annotations = sandbox_annotations(pod);
    annotations.insert(super::labels::BOOT_ID.to_owned(), config.boot_id.clone());
    Ok(PodSandboxConfig {
        pod: PodIdentity {
            uid: uid(pod).to_owned(),
            name: name(pod).to_owned(),
            namespace: namespace(pod).to_owned(),
        },
        attempt,
        hostname: if is_host_network(pod) {
            String::new()
        } else {
            kernel_hostname(pod, &names)?
        },
        dns,
        log_directory: config.pod_log_directory(namespace(pod), name(pod), uid(pod)),
        port_mappings: port_mappings(pod),
        labels: sandbox_labels(pod),
        annotations,
        namespaces: namespaces(pod, user_namespace),
        sysctls: sysctls(pod),
        cgroup_parent: CgroupParent {
            qos_class: cri_qos(pod),
        },
        resources: pod_resources(pod, config.pod_pids_max),
    })
}

fn namespaces(pod: &Pod, user_namespace: Option<IdMapping>) -> NamespaceOptions {
    let spec = spec(pod);
    let mode = |of_node: Option<bool>| {
        if of_node == Some(true) {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        }
    };
    NamespaceOptions {
        network: mode(spec.host_network),
        ipc: mode(spec.host_ipc),
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => PidMode::Node,
            (_, Some(true)) => PidMode::Pod,
            _ => PidMode::Container,
        },
        user: user_namespace.map_or(UserNamespace::Node, UserNamespace::Pod),
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    if is_host_network(pod) {
        return Vec::new();
    }
    let all = containers(pod)
        .iter()
        .chain(init_containers(pod))
        .flat_map(|container| container.ports.iter().flatten());
    all.filter_map(|port| {
        let host_port = u16::try_from(port.host_port?)
            .ok()
            .filter(|port| *port != 0)?;
        let host_ip = port
            .host_ip
            .as_deref()
            .and_then(|ip| ip.parse::<IpAddr>().ok())
            .filter(|ip| !ip.is_unspecified());
        Some(PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            },
            container_port: u16::try_from(port.container_port).ok()?,
            host_port,
            host_ip,
        })
    })
    .collect()
}

/// The sysctls with dots; both spellings are legal in the spec.
fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let wanted = spec(pod)
        .security_context
        .as_ref()
        .and_then(|context| context.sysctls.as_ref());
    wanted
        .into_iter()
        .flatten()
        .map(|sysctl| (dotted(&sysctl.name), sysctl.value.clone()))
        .collect()
}

/// `net/ipv4/conf/eth0.1/x` → `net.ipv4.conf.eth0/1.x`: the separator that comes first tells the spelling.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name
            .chars()
            .map(|character| match character {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Refuses sysctls that are neither safe nor allowed on this node.
pub(crate) fn check_sysctls(pod: &Pod, allowed_unsafe: &[String]) -> Result<()> {
    for (name, _) in sysctls(pod) {
        let safe = SAFE_SYSCTLS.contains(&name.as_str());
        let allowed = allowed_unsafe
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => *pattern == name,
            });
        if !safe && !allowed {
            return refuse(format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        if is_host_network(pod) && name.starts_with("net.") {
            return refuse(format!(
                "forbidden sysctl: {name:?} not allowed with host net enabled"
            ));
        }
        let of_ipc = name.starts_with("kernel.shm")
            || name.starts_with("kernel.msg")
            || name == "kernel.sem"
            || name.starts_with("fs.mqueue.");
        if spec(pod).host_ipc == Some(true) && of_ipc {
            return refuse(format!(
                "forbidden sysctl: {name:?} not allowed with host ipc enabled"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_of_a_sysctl_mean_the_same() {
        assert_eq!(dotted("net/ipv4/conf/eth0.1/x"), "net.ipv4.conf.eth0/1.x");
        assert_eq!(dotted("kernel.shm_rmid_forced"), "kernel.shm_rmid_forced");
    }

    #[test]
    fn unsafe_sysctls_are_refused_unless_the_node_allows_them() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [],
            "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}}))
        .unwrap();
        assert_eq!(
            check_sysctls(&pod, &[]).unwrap_err().0,
            "forbidden sysctl: \"kernel.msgmax\" not allowlisted"
        );
        assert!(check_sysctls(&pod, &["kernel.msg*".to_owned()]).is_ok());
    }
}
