//! Names and marks of links: which instance and which pod a link belongs to can be read from the link itself.

use linux::netlink::route::{Link, Mac};

/// Bytes of a pod UID that fit into a link's alias with room to spare.
const POD_UID_BYTES_MAX: usize = 128;

/// One Combo instance on this machine, named by a short hash of its data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    name: String,
}

impl Instance {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The group that marks a link as ours from the moment it exists.
    pub(crate) fn group(&self) -> u32 {
        let hash = hash(&["group", &self.name]);
        // 31 bits: tools print groups as signed numbers.
        u32::try_from(hash >> 33).expect("31 bits fit").max(1)
    }

    /// A metric that tells our routes from those of another instance to the same destination.
    pub(crate) fn metric(&self) -> u32 {
        const BASE: u32 = 0x0100_0000;
        BASE | (self.group() & 0x00ff_ffff)
    }

    /// The port-less bridge that holds the node's own address.
    pub(crate) fn node_link(&self) -> String {
        format!("combo{:08x}", hash(&["node", &self.name]) >> 32)
    }

    /// The host's end of a pod's link.
    pub(crate) fn pod_link(&self, pod_uid: &str) -> String {
        format!("cmb{:011x}", hash(&["pod", &self.name, pod_uid]) >> 20)
    }

    /// The tunnels to other nodes.
    pub(crate) fn vxlan_link(&self) -> String {
        format!("cmbvx{:08x}", hash(&["vxlan", &self.name]) >> 32)
    }

    pub(crate) fn wireguard_link(&self) -> String {
        format!("cmbwg{:08x}", hash(&["wireguard", &self.name]) >> 32)
    }

    pub(crate) fn overlay_alias(&self) -> String {
        format!("combo {} overlay", self.name)
    }

    pub(crate) fn alias(&self, pod_uid: &str) -> String {
        format!("combo {} pod {pod_uid}", self.name)
    }

    /// The pod that a link belongs to, if it is one of ours.
    pub(crate) fn pod_of<'a>(&self, link: &'a Link) -> Option<&'a str> {
        let marked = link
            .alias
            .as_deref()?
            .strip_prefix("combo ")?
            .strip_prefix(self.name.as_str())?;
        let pod_uid = marked.strip_prefix(" pod ")?;
        (link.group == self.group() && link.name == self.pod_link(pod_uid)).then_some(pod_uid)
    }

    /// Whether a link leads from this instance to other nodes.
    pub(crate) fn is_tunnel(&self, link: &Link) -> bool {
        link.name == self.vxlan_link() || link.name == self.wireguard_link()
    }

    /// Whether a link is a pod's link of this instance, finished or not.
    pub(crate) fn made(&self, link: &Link) -> bool {
        link.group == self.group()
            && link.name.starts_with("cmb")
            && link.kind.as_deref() == Some("veth")
    }
}

pub(crate) fn is_writable_pod_uid(pod_uid: &str) -> bool {
    !pod_uid.is_empty()
        && pod_uid.len() <= POD_UID_BYTES_MAX
        && pod_uid.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A node's hardware address in the tunnel: the same after every start, so that other nodes need not change anything.
pub(crate) fn tunnel_mac(node_name: &str) -> Mac {
    let bytes = hash(&["mac", node_name]).to_be_bytes();
    // Of no vendor, and of one machine.
    const LOCAL: u8 = 0x02;
    const GROUP: u8 = 0x01;
    [
        bytes[0] & !GROUP | LOCAL,
        bytes[1],
        bytes[2],
        bytes[3],
        bytes[4],
        bytes[5],
    ]
}

/// FNV-1a with a final mix; a name, not a secret.
fn hash(parts: &[&str]) -> u64 {
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    sum = (sum ^ (sum >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    sum ^ (sum >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_link_name_and_differ_between_instances() {
        let (one, other) = (Instance::new("1f2e3d4c"), Instance::new("aaaaaaaa"));
        for name in [
            one.pod_link("uid"),
            one.node_link(),
            one.vxlan_link(),
            one.wireguard_link(),
        ] {
            assert!(name.len() <= 15, "{name}");
        }
        assert_ne!(one.pod_link("uid"), other.pod_link("uid"));
        assert_ne!(one.group(), other.group());
    }

    #[test]
    fn a_link_of_another_instance_is_nobodys_pod_here() {
        let (one, other) = (Instance::new("1"), Instance::new("12"));
        let link = Link {
            index: 7,
            name: other.pod_link("uid"),
            alias: Some(other.alias("uid")),
            group: other.group(),
            mac: None,
            mtu: 1500,
            up: true,
            kind: Some("veth".to_owned()),
            vxlan: None,
        };
        assert_eq!(other.pod_of(&link), Some("uid"));
        assert_eq!(one.pod_of(&link), None);
        assert!(!one.made(&link));
    }
}
