//! Hears what changes of links, addresses, routes and neighbours.

use super::{
    Address, DELETE_ADDRESS, DELETE_LINK, DELETE_NEIGHBOUR, DELETE_ROUTE, Link, Message,
    NEW_ADDRESS, NEW_LINK, NEW_NEIGHBOUR, NEW_ROUTE, Neighbour, NetlinkError, Protocol, Route,
    Socket, address_of, link_of, neighbour_of, route_of,
};
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Links, neighbours, addresses and routes of both families (`RTNLGRP_*`).
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// A notification of the kernel: something is so now, or is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Link(Link),
    LinkGone(Link),
    Address(Address),
    AddressGone(Address),
    Route(Route),
    RouteGone(Route),
    /// Only permanent ones.
    Neighbour(Neighbour),
    NeighbourGone(Neighbour),
}

/// Notifications of one network namespace.
#[derive(Debug)]
pub struct RouteWatch(AsyncFd<Socket>);

impl RouteWatch {
    /// Hears of everything from now on, in the network namespace of the calling thread. Must be called within a runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = Socket::open(Protocol::Route)?;
        for group in GROUPS {
            socket.join(group)?;
        }
        #[expect(
            deprecated,
            reason = "its successor is unsafe; a socket keeps its descriptor for its whole life"
        )]
        let watched = AsyncFd::with_interest(socket, Interest::READABLE);
        watched.map(Self).map_err(|source| NetlinkError::Socket {
            doing: "watch the kernel's notifications",
            source,
        })
    }

    /// Returns once something happened that `matters`, or notifications were lost; cancel safe.
    ///
    /// What is told is a hint to look again: the kernel tells of one change several times, and of our own too.
    pub async fn changed(&mut self, matters: impl Fn(&Seen) -> bool) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut heard = false;
            let result = ready.get_inner().notifications(|message| {
                heard |= read(message).is_some_and(|seen| matters(&seen));
            });
            ready.clear_ready();
            if heard || result.is_err() {
                return Ok(());
            }
        }
    }
}

fn read(message: &Message<'_>) -> Option<Seen> {
    let payload = message.payload;
    match message.kind {
        NEW_LINK => link_of(payload).map(Seen::Link),
        DELETE_LINK => link_of(payload).map(Seen::LinkGone),
        NEW_ADDRESS => address_of(payload).map(Seen::Address),
        DELETE_ADDRESS => address_of(payload).map(Seen::AddressGone),
        NEW_ROUTE => route_of(payload).map(Seen::Route),
        DELETE_ROUTE => route_of(payload).map(Seen::RouteGone),
        NEW_NEIGHBOUR => neighbour_of(payload).map(Seen::Neighbour),
        DELETE_NEIGHBOUR => neighbour_of(payload).map(Seen::NeighbourGone),
        _ => None,
    }
}
