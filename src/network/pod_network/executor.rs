//! Does the steps of a plan in the kernel.

use crate::plan::{HOST_MAC, HostStep, POD_LINK, Plan, PodStep, ROUTE_PROTOCOL};
use crate::sysctl;
use linux::NetworkNamespace;
use linux::netlink::NetlinkError;
use linux::netlink::route::{
    Address, Mac, Neighbour, NewLink, NewLinkKind, Route, RouteSocket, host_prefix,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

/// What stopped a plan.
#[derive(Debug)]
pub(crate) enum Failure {
    Netlink(&'static str, NetlinkError),
    System(&'static str, io::Error),
    /// Somebody else on this machine has a route to the address.
    Claimed(IpAddr),
}

/// Connects a pod and returns the index of the host's end. A failure leaves nothing behind.
pub(crate) fn attach(
    host: &NetworkNamespace,
    socket: &mut RouteSocket,
    pod: &NetworkNamespace,
    plan: &Plan,
) -> Result<u32, Failure> {
    let mut index = 0;
    let done = run_host_steps(host, socket, pod, plan, &mut index)
        .and_then(|()| {
            let steps = plan.pod.clone();
            pod.run(move || run_pod_steps(&steps))
                .map_err(|error| Failure::System("enter the pod's namespace", error))?
        })
        .and_then(|mac| finish(socket, index, mac, &plan.known));
    match done {
        Ok(()) => Ok(index),
        Err(failure) => {
            if index != 0
                && let Err(error) = socket.delete_link(index)
            {
                tracing::warn!(%error, "a half-made pod link stays until the next start");
            }
            Err(failure)
        }
    }
}

fn run_host_steps(
    host: &NetworkNamespace,
    socket: &mut RouteSocket,
    pod: &NetworkNamespace,
    plan: &Plan,
    index: &mut u32,
) -> Result<(), Failure> {
    for step in &plan.host {
        match step {
            HostStep::MakeLink { name, group, mtu } => {
                *index = make_link(socket, pod, name, *group, *mtu)
                    .map_err(|error| Failure::Netlink("make the link", error))?;
            }
            HostStep::Mark { alias } => socket
                .set_link_alias(*index, alias)
                .map_err(|error| Failure::Netlink("mark the link", error))?,
            HostStep::Sysctl { key, value } => host
                .run(|| sysctl::write(key, value))
                .and_then(|done| done)
                .map_err(|error| Failure::System("write a kernel setting", error))?,
            HostStep::SwitchOn => socket
                .set_link_up(*index)
                .map_err(|error| Failure::Netlink("switch the link on", error))?,
            HostStep::Claim { address, source } => claim(socket, *index, *address, *source)?,
        }
    }
    Ok(())
}

fn finish(socket: &mut RouteSocket, index: u32, mac: Mac, known: &[IpAddr]) -> Result<(), Failure> {
    for address in known {
        socket
            .set_neighbour(Neighbour {
                link: index,
                address: *address,
                mac,
            })
            .map_err(|error| Failure::Netlink("tell the host the pod's hardware address", error))?;
    }
    socket
        .wait_until_running(index)
        .map_err(|error| Failure::Netlink("wait for the link", error))
}

fn make_link(
    socket: &mut RouteSocket,
    pod: &NetworkNamespace,
    name: &str,
    group: u32,
    mtu: u32,
) -> Result<u32, NetlinkError> {
    let link = NewLink {
        name: name.to_owned(),
        kind: NewLinkKind::Veth {
            peer_name: POD_LINK.to_owned(),
            peer_namespace: pod.as_raw_fd(),
        },
        mac: Some(HOST_MAC),
        mtu,
        group,
    };
    let mut made = socket.add_link(&link);
    if made
        .as_ref()
        .is_err_and(|error| error.is_refusal(libc::EEXIST))
        && let Some(old) = socket.link_named(name)?
    {
        socket.delete_link(old.index)?;
        made = socket.add_link(&link);
    }
    made?;
    Ok(socket
        .link_named(name)?
        .ok_or(NetlinkError::Malformed)?
        .index)
}

fn claim(
    socket: &mut RouteSocket,
    index: u32,
    address: IpAddr,
    source: Option<IpAddr>,
) -> Result<(), Failure> {
    let route = Route {
        destination: address,
        prefix_length: host_prefix(address),
        link: Some(index),
        gateway: None,
        on_link: false,
        source,
        metric: None,
        protocol: ROUTE_PROTOCOL,
    };
    match socket.add_route(&route) {
        Err(error) if error.is_refusal(libc::EEXIST) => Err(Failure::Claimed(address)),
        Err(error) => Err(Failure::Netlink("add the pod's route", error)),
        Ok(()) => Ok(()),
    }
}

/// Runs on a thread inside the pod. Returns the hardware address of its link.
fn run_pod_steps(steps: &[PodStep]) -> Result<Mac, Failure> {
    let mut socket =
        RouteSocket::open().map_err(|error| Failure::Netlink("open a socket in the pod", error))?;
    let find = |socket: &mut RouteSocket, name: &str| {
        let found = socket
            .link_named(name)
            .map_err(|error| Failure::Netlink("find the pod's link", error))?;
        found.ok_or(Failure::Netlink(
            "find the pod's link",
            NetlinkError::Malformed,
        ))
    };
    let own = find(&mut socket, POD_LINK)?;
    let link = own.index;
    for step in steps {
        match step {
            PodStep::Sysctl { key, value } => sysctl::write(key, value)
                .map_err(|error| Failure::System("write a kernel setting of the pod", error))?,
            PodStep::SwitchOn { name } => {
                let index = find(&mut socket, name)?.index;
                socket
                    .set_link_up(index)
                    .map_err(|error| Failure::Netlink("switch the pod's link on", error))?;
            }
            PodStep::Address { address } => socket
                .add_address(Address {
                    link,
                    address: *address,
                    prefix_length: host_prefix(*address),
                    scope: 0,
                })
                .map_err(|error| Failure::Netlink("give the pod its address", error))?,
            PodStep::Gateway { address, mac } => socket
                .set_neighbour(Neighbour {
                    link,
                    address: *address,
                    mac: *mac,
                })
                .map_err(|error| Failure::Netlink("give the pod its gateway", error))?,
            PodStep::DefaultRoute { gateway } => {
                socket
                    .add_route(&default_route(link, *gateway))
                    .map_err(|error| Failure::Netlink("give the pod its default route", error))?;
            }
        }
    }
    own.mac.ok_or(Failure::Netlink(
        "read the pod's hardware address",
        NetlinkError::Malformed,
    ))
}

fn default_route(link: u32, gateway: IpAddr) -> Route {
    let destination = if gateway.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    Route {
        destination,
        prefix_length: 0,
        link: Some(link),
        gateway: Some(gateway),
        on_link: true,
        source: None,
        metric: None,
        protocol: ROUTE_PROTOCOL,
    }
}
