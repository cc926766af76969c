//! What has to be done in the kernel to connect a pod; pure. Everything hangs on the pod's link, so that removing the
//! link undoes all of it.

use crate::identity::Instance;
use linux::netlink::route::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The hardware address of every host end. Pods reach it without asking: their gateway is a permanent neighbour.
pub(crate) const HOST_MAC: Mac = [0xee; 6];
/// The pod's gateway; an address that no machine has and none needs.
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The link-local address that belongs to `HOST_MAC`.
pub(crate) const GATEWAY_V6: Ipv6Addr =
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
pub(crate) const POD_LINK: &str = "eth0";
/// The mark of our routes (`RTPROT_*`), a number that no routing daemon uses.
pub(crate) const ROUTE_PROTOCOL: u8 = 67;

/// A step on the host's side; the link is known by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostStep {
    /// Makes the pair, with the far end in the pod. A link of that name is what a crash left behind, and is removed first.
    MakeLink {
        name: String,
        group: u32,
        mtu: u32,
    },
    Mark {
        alias: String,
    },
    Sysctl {
        key: String,
        value: &'static str,
    },
    SwitchOn,
    /// Claims the address on this machine: the kernel refuses a second route to it. What the node itself sends to the pod
    /// has the source; without it the kernel takes any address of any link, for IPv6 a link-local one.
    Claim {
        address: IpAddr,
        source: Option<IpAddr>,
    },
}

/// A step inside the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PodStep {
    Sysctl { key: String, value: &'static str },
    SwitchOn { name: &'static str },
    Address { address: IpAddr },
    Gateway { address: IpAddr, mac: Mac },
    DefaultRoute { gateway: IpAddr },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) host: Vec<HostStep>,
    pub(crate) pod: Vec<PodStep>,
    /// Addresses for which the host is told the pod's hardware address at last. It never has to ask: a question that is
    /// lost, or that the host cannot send before its own link-local address is there, would cost a second.
    pub(crate) known: Vec<IpAddr>,
}

/// The steps that connect a pod with these addresses; the node has its own, at most one per family.
pub(crate) fn attachment(
    instance: &Instance,
    pod_uid: &str,
    addresses: &[IpAddr],
    node_addresses: &[IpAddr],
    mtu: u32,
) -> Plan {
    let name = instance.pod_link(pod_uid);
    let has_v6 = addresses.iter().any(IpAddr::is_ipv6);
    let mut host = vec![
        HostStep::MakeLink {
            name: name.clone(),
            group: instance.group(),
            mtu,
        },
        HostStep::Mark {
            alias: instance.alias(pod_uid),
        },
        // A pod that sends with another's address is not heard.
        HostStep::Sysctl {
            key: format!("net/ipv4/conf/{name}/rp_filter"),
            value: "1",
        },
    ];
    let mut pod = Vec::new();
    if has_v6 {
        // Else the link-local addresses are unusable for the first one or two seconds.
        host.push(HostStep::Sysctl {
            key: format!("net/ipv6/conf/{name}/accept_dad"),
            value: "0",
        });
        pod.push(PodStep::Sysctl {
            key: format!("net/ipv6/conf/{POD_LINK}/accept_dad"),
            value: "0",
        });
    }
    host.push(HostStep::SwitchOn);
    host.extend(addresses.iter().map(|address| {
        HostStep::Claim {
            address: *address,
            source: node_addresses
                .iter()
                .copied()
                .find(|own| own.is_ipv4() == address.is_ipv4()),
        }
    }));
    pod.push(PodStep::SwitchOn { name: "lo" });
    pod.push(PodStep::SwitchOn { name: POD_LINK });
    for address in addresses {
        let gateway: IpAddr = if address.is_ipv4() {
            GATEWAY_V4.into()
        } else {
            GATEWAY_V6.into()
        };
        pod.push(PodStep::Address { address: *address });
        pod.push(PodStep::Gateway {
            address: gateway,
            mac: HOST_MAC,
        });
        pod.push(PodStep::DefaultRoute { gateway });
    }
    Plan {
        host,
        pod,
        known: addresses.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_claimed_before_the_pod_has_it_and_the_link_is_marked_before_it_is_on() {
        let addresses = ["10.42.0.2".parse().unwrap(), "fd42::2".parse().unwrap()];
        let plan = attachment(&Instance::new("i"), "uid", &addresses, &[], 1450);
        let position =
            |wanted: &HostStep| plan.host.iter().position(|step| step == wanted).unwrap();
        let mark = HostStep::Mark {
            alias: Instance::new("i").alias("uid"),
        };
        assert!(position(&mark) < position(&HostStep::SwitchOn));
        assert!(
            plan.host
                .ends_with(&addresses.map(|address| HostStep::Claim {
                    address,
                    source: None
                }))
        );
    }

    #[test]
    fn a_pod_without_ipv6_needs_no_ipv6_in_the_kernel() {
        let plan = attachment(
            &Instance::new("i"),
            "uid",
            &["10.42.0.2".parse().unwrap()],
            &[],
            1450,
        );
        let text = format!("{plan:?}");
        assert!(!text.contains("ipv6") && !text.contains("fe80"), "{text}");
    }
}
