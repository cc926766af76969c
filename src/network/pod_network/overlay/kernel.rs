//! Reads what is in the kernel, and does the steps of a difference there.

use super::Checksums;
use super::difference::{Found, Step, difference, route};
use super::plan::{Desired, Out, Tunnel, TunnelKind, WIREGUARD_PORT};
use crate::error::Error;
use crate::identity::Instance;
use crate::node_link::node;
use linux::netlink::NetlinkError;
use linux::netlink::ethtool::compute_checksums;
use linux::netlink::route::{
    Address, Forwarding, Neighbour, NewLink, NewLinkKind, RouteSocket, Way, host_prefix,
};
use linux::netlink::wireguard::{Key, WireGuardSocket};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A peer behind a router that translates addresses forgets us sooner than this otherwise.
const KEEPALIVE_SECONDS: u16 = 25;

/// The part of the kernel that is the overlay's; belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Kernel {
    instance: Instance,
    routes: RouteSocket,
    /// With the node's private key; only where the node's backend is WireGuard.
    wireguard: Option<(WireGuardSocket, Key)>,
}

/// What stopped a step.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) step: Step,
    pub(crate) error: NetlinkError,
}

impl Refused {
    /// Whether this kernel has no VXLAN.
    pub(crate) fn is_no_vxlan(&self) -> bool {
        let is_vxlan = match &self.step {
            Step::MakeTunnel(tunnel) => matches!(tunnel.kind, TunnelKind::Vxlan { .. }),
            _ => false,
        };
        is_vxlan && self.error.is_refusal(libc::EOPNOTSUPP)
    }
}

impl Kernel {
    pub(crate) fn open(instance: Instance) -> Result<Self, Error> {
        Ok(Self {
            instance,
            routes: RouteSocket::open().map_err(node("open a netlink socket"))?,
            wireguard: None,
        })
    }

    /// Tries whether this kernel has WireGuard, and returns the public key of the private one.
    pub(crate) fn use_wireguard(&mut self, private_key: Key) -> Result<Key, Error> {
        let refused = |source| Error::NoWireGuard { source };
        let mut socket = WireGuardSocket::open().or_else(|_not_loaded| {
            // The kernel loads the module when the first link is made.
            self.with_trial_link(|_link| WireGuardSocket::open())
        });
        if let Err(error) = socket {
            return Err(refused(error));
        }
        let opened = socket.as_mut().expect("errors were returned");
        let key = self.with_trial_link(|link| {
            opened.set_key_and_port(link, &private_key, 0)?;
            opened
                .device(link)?
                .public_key
                .ok_or(NetlinkError::Malformed)
        });
        self.wireguard = socket.ok().map(|socket| (socket, private_key));
        key.map_err(refused)
    }

    /// Runs `work` on a WireGuard link that is there only meanwhile.
    fn with_trial_link<T>(
        &mut self,
        work: impl FnOnce(u32) -> Result<T, NetlinkError>,
    ) -> Result<T, NetlinkError> {
        // One that a crash left behind has the name of the tunnel without its mark, and is made anew.
        let name = format!("{}t", self.instance.wireguard_link());
        let link = NewLink {
            name,
            kind: NewLinkKind::WireGuard,
            mac: None,
            mtu: 1420,
            group: self.instance.group(),
        };
        let index = self.make_anew(&link)?;
        let done = work(index);
        self.routes.delete_link(index)?;
        done
    }

    fn make_anew(&mut self, link: &NewLink) -> Result<u32, NetlinkError> {
        if let Some(old) = self.routes.link_named(&link.name)? {
            self.routes.delete_link(old.index)?;
        }
        self.routes.add_link(link)?;
        let made = self.routes.link_named(&link.name)?;
        Ok(made.ok_or(NetlinkError::Malformed)?.index)
    }

    pub(crate) fn find(&mut self) -> Result<Found, NetlinkError> {
        let links = self.routes.links()?;
        let name = self.instance.wireguard_link();
        let tunnel = links.iter().find(|link| link.name == name);
        let wireguard = match (&mut self.wireguard, tunnel) {
            (Some((socket, _)), Some(link)) => Some(socket.device(link.index)?),
            _ => None,
        };
        let has_tunnel = links.iter().any(|link| self.instance.is_tunnel(link));
        Ok(Found {
            addresses: self.routes.addresses()?,
            routes: self.routes.routes()?,
            // The many neighbours of pods are of no interest while there is no tunnel.
            neighbours: self.only_if(has_tunnel, RouteSocket::neighbours)?,
            forwardings: self.only_if(has_tunnel, RouteSocket::forwardings)?,
            links,
            wireguard,
        })
    }

    fn only_if<T>(
        &mut self,
        condition: bool,
        list: fn(&mut RouteSocket) -> Result<Vec<T>, NetlinkError>,
    ) -> Result<Vec<T>, NetlinkError> {
        if condition {
            list(&mut self.routes)
        } else {
            Ok(Vec::new())
        }
    }

    /// How packets leave for each of these addresses; those without a way are left out.
    pub(crate) fn ways(
        &mut self,
        addresses: BTreeSet<IpAddr>,
    ) -> Result<BTreeMap<IpAddr, Way>, NetlinkError> {
        let mut ways = BTreeMap::new();
        for address in addresses {
            if let Some(way) = self.routes.way_towards(address)? {
                ways.insert(address, way);
            }
        }
        Ok(ways)
    }

    /// Does all steps that can be done, and returns those that were refused.
    pub(crate) fn run(&mut self, steps: Vec<Step>) -> Vec<Refused> {
        let mut refused = Vec::new();
        let mut tunnel = None;
        for step in steps {
            if let Err(error) = self.run_step(&step, &mut tunnel) {
                let is_fatal = matches!(step, Step::MakeTunnel(_));
                refused.push(Refused { step, error });
                if is_fatal {
                    // All that follows is of the tunnel, or is tried again with it.
                    break;
                }
            }
        }
        refused
    }

    fn run_step(&mut self, step: &Step, tunnel: &mut Option<u32>) -> Result<(), NetlinkError> {
        let routes = &mut self.routes;
        let link = || tunnel.ok_or(NetlinkError::Malformed);
        match step {
            Step::RemoveRoute(route) => absent_is_done(routes.delete_route(route)),
            Step::RemoveNeighbour { link, address } => routes.delete_neighbour(*link, *address),
            Step::RemoveForwarding(entry) => routes.delete_forwarding(*entry),
            Step::RemovePeers { link, keys } => match &mut self.wireguard {
                Some((socket, _)) => socket.remove_peers(*link, keys),
                None => Ok(()),
            },
            Step::RemoveTunnel { link } => absent_is_done(routes.delete_link(*link)),
            Step::MakeTunnel(wanted) => {
                *tunnel = Some(self.make_tunnel(wanted)?);
                Ok(())
            }
            Step::UseTunnel { link } => {
                *tunnel = Some(*link);
                Ok(())
            }
            Step::AddAddress(address) => routes.add_address(Address {
                link: link()?,
                address: *address,
                prefix_length: host_prefix(*address),
                scope: 0,
            }),
            Step::SwitchOn => routes.set_link_up(link()?),
            Step::SetPeers(peers) => match &mut self.wireguard {
                Some((socket, _)) => socket.set_peers(link()?, peers, KEEPALIVE_SECONDS),
                None => Ok(()),
            },
            Step::SetNeighbour { address, mac } => routes.set_neighbour(Neighbour {
                link: link()?,
                address: *address,
                mac: *mac,
            }),
            Step::SetForwarding { mac, machine } => routes.set_forwarding(Forwarding {
                link: link()?,
                mac: *mac,
                machine: *machine,
            }),
            Step::SetRoute { range, hop } => {
                let out = match hop.out {
                    Out::Link(link) => link,
                    Out::Tunnel => link()?,
                };
                routes.replace_route(&route(*range, hop, out))
            }
        }
    }

    fn make_tunnel(&mut self, tunnel: &Tunnel) -> Result<u32, NetlinkError> {
        let (kind, mac) = match tunnel.kind {
            TunnelKind::Vxlan { settings, mac, .. } => (NewLinkKind::Vxlan(settings), Some(mac)),
            TunnelKind::WireGuard => (NewLinkKind::WireGuard, None),
        };
        let index = self.make_anew(&NewLink {
            name: tunnel.name.clone(),
            kind,
            mac,
            mtu: tunnel.mtu,
            group: tunnel.group,
        })?;
        match tunnel.kind {
            TunnelKind::Vxlan {
                checksums: Checksums::Computed,
                ..
            } => compute_checksums(index)?,
            TunnelKind::Vxlan { .. } => {}
            TunnelKind::WireGuard => {
                let (socket, key) = self.wireguard.as_mut().ok_or(NetlinkError::Malformed)?;
                socket.set_key_and_port(index, key, WIREGUARD_PORT)?;
            }
        }
        // At last: a tunnel without its alias is not finished, and is made anew.
        self.routes.set_link_alias(index, &tunnel.alias)?;
        Ok(index)
    }
}

/// Takes away every tunnel of an instance and its routes to other nodes.
pub(crate) fn clean_up(instance: &str) -> Result<(), Error> {
    let doing = "remove the way to other nodes";
    let instance = Instance::new(instance);
    let mut kernel = Kernel::open(instance.clone())?;
    let found = kernel.find().map_err(node(doing))?;
    let steps = difference(&instance, &Desired::default(), &found);
    let refused = kernel.run(steps).into_iter().next();
    refused.map_or(Ok(()), |refused| Err(node(doing)(refused.error)))
}

/// Bytes of a packet that leaves the node whole by the link that has this address; 1500 without such a link.
pub(crate) fn uplink_mtu(found: &Found, address: IpAddr) -> u32 {
    const ETHERNET: u32 = 1500;
    let of_address = found.addresses.iter().find(|one| one.address == address);
    let link = of_address.and_then(|one| found.links.iter().find(|link| link.index == one.link));
    link.map_or(ETHERNET, |link| link.mtu)
}

fn absent_is_done(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_refusal(libc::ESRCH) || error.is_refusal(libc::ENODEV) => Ok(()),
        other => other,
    }
}
