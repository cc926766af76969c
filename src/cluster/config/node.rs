//! Everything about one node, checked.

use std::net::IpAddr;
use std::path::PathBuf;

use pod_network::Checksums;

use crate::error::invalid;
use crate::paths::absolute;
use crate::{ConfigError, ImageProxies, NodeFlags};

const DEFAULT_KUBELET_PORT: u16 = 10250;
const DEFAULT_REGISTRIES_FILE: &str = "/etc/combo/registries.yaml";
/// Where the products that bring plugins put them, everywhere.
const DEFAULT_CNI_CONFIGURATIONS: &str = "/etc/cni/net.d";
const DEFAULT_CNI_PROGRAMS: &str = "/opt/cni/bin";
const DEFAULT_RESOLV_CONF: &str = "/etc/resolv.conf";
/// The kernel's limit.
const INTERFACE_LETTERS_MAX: usize = 15;
/// A node has one address of each family, and outside perhaps several.
const EXTERNAL_ADDRESSES_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub name: String,
    /// `--node-ip`
    pub address: Option<IpAddr>,
    /// `--flannel-iface`: whose address is the node's; never with `address`.
    pub interface: Option<String>,
    pub external_addresses: Vec<IpAddr>,
    pub labels: Vec<(String, String)>,
    /// `key=value:effect`, checked.
    pub taints: Vec<String>,
    pub kubelet_port: u16,
    pub resolv_conf: PathBuf,
    pub checksums: Checksums,
    /// `--cni-conf-dir`
    pub cni_configurations: PathBuf,
    /// `--cni-bin-dir`
    pub cni_programs: PathBuf,
    /// registries.yaml
    pub registries_file: PathBuf,
    /// Whether a registry itself is asked after its mirrors.
    pub uses_default_registry_endpoint: bool,
    pub image_proxies: ImageProxies,
}

impl NodeConfig {
    pub(crate) fn from_flags(said: &NodeFlags, host_name: &str) -> Result<Self, ConfigError> {
        let external = &said.node_external_ip;
        if external.len() > EXTERNAL_ADDRESSES_MAX {
            let why = format!(
                "it has {} addresses; {EXTERNAL_ADDRESSES_MAX} are the most",
                external.len()
            );
            return Err(invalid("node-external-ip", external[0], &why));
        }
        let path = |said: &Option<PathBuf>, default: &str| {
            absolute(said.clone().unwrap_or_else(|| default.into()))
        };
        Ok(Self {
            name: name(said.node_name.as_deref(), host_name)?,
            address: said.node_ip,
            interface: interface(said)?,
            external_addresses: external.clone(),
            labels: each(&said.node_label, key_value)?,
            taints: each(&said.node_taint, checked_taint)?,
            kubelet_port: said.kubelet_port.unwrap_or(DEFAULT_KUBELET_PORT),
            resolv_conf: path(&said.resolv_conf, DEFAULT_RESOLV_CONF),
            checksums: if said.disable_checksum_offload {
                Checksums::Computed
            } else {
                Checksums::Offloaded
            },
            cni_configurations: path(&said.cni_conf_dir, DEFAULT_CNI_CONFIGURATIONS),
            cni_programs: path(&said.cni_bin_dir, DEFAULT_CNI_PROGRAMS),
            registries_file: path(&said.private_registry, DEFAULT_REGISTRIES_FILE),
            uses_default_registry_endpoint: !said.disable_default_registry_endpoint,
            image_proxies: said.proxies.of_images()?,
        })
    }
}

fn each<T>(
    texts: &[String],
    read: impl Fn(&str) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    texts.iter().map(|text| read(text)).collect()
}

fn name(said: Option<&str>, host_name: &str) -> Result<String, ConfigError> {
    let name = said.map_or_else(|| host_name.to_lowercase(), str::to_owned);
    let is_good = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && label.bytes().next().is_some_and(|first| first != b'-')
                && !label.ends_with('-')
        });
    if is_good {
        return Ok(name);
    }
    Err(invalid(
        "node-name",
        name,
        "a node's name is a DNS name in lower case",
    ))
}

fn interface(said: &NodeFlags) -> Result<Option<String>, ConfigError> {
    let Some(interface) = &said.flannel_iface else {
        return Ok(None);
    };
    if said.node_ip.is_some() {
        let why = "--node-ip says the address already; leave one of the two out";
        return Err(invalid("flannel-iface", interface, why));
    }
    let is_letter = |letter: u8| letter.is_ascii_graphic() && letter != b'/';
    if interface.is_empty()
        || interface.len() > INTERFACE_LETTERS_MAX
        || !interface.bytes().all(is_letter)
    {
        return Err(invalid(
            "flannel-iface",
            interface,
            "it is no name of a network interface such as eth0",
        ));
    }
    Ok(Some(interface.clone()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_about_a_node_names_its_flag() {
        let with = |change: &dyn Fn(&mut NodeFlags)| {
            let mut said = NodeFlags::default();
            change(&mut said);
            NodeConfig::from_flags(&said, "Host").map(|node| node.name)
        };
        assert_eq!(with(&|_| {}), Ok("host".to_owned()));
        let wrong: [(&dyn Fn(&mut NodeFlags), &str); 6] = [
            (&|said| said.node_name = Some("A_b".to_owned()), "node-name"),
            (&|said| said.node_label = vec!["a".to_owned()], "node-label"),
            (
                &|said| said.node_taint = vec!["a=b:Never".to_owned()],
                "node-taint",
            ),
            (
                &|said| said.flannel_iface = Some("../eth0".to_owned()),
                "flannel-iface",
            ),
            (
                &|said| {
                    said.flannel_iface = Some("eth0".to_owned());
                    said.node_ip = Some([10, 0, 0, 1].into());
                },
                "flannel-iface",
            ),
            (
                &|said| said.node_external_ip = vec![[10, 0, 0, 1].into(); 40],
                "node-external-ip",
            ),
        ];
        for (change, flag) in wrong {
            let error = with(change).expect_err(flag).to_string();
            assert!(error.starts_with(&format!("--{flag} ")), "{error}");
        }
    }
}
