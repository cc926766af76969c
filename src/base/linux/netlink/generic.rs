//! Generic netlink: parts of the kernel that are found by name.

use super::NetlinkError;
use super::attributes::Request;
use super::socket::{Protocol, Reply, Socket};

/// The part that knows the others.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_NUMBER: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// Bytes of the header in front of the attributes: command, version, two reserved.
pub(crate) const HEADER_BYTES: usize = 4;
const VERSION: u8 = 1;

/// A socket to one part of the kernel.
#[derive(Debug)]
pub(crate) struct GenericSocket {
    socket: Socket,
    family: u16,
}

impl GenericSocket {
    /// Finds a part by its name, in the network namespace of the calling thread; ENOENT when this kernel lacks it.
    pub(crate) fn open(family: &str) -> Result<Self, NetlinkError> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let mut request = Request::get(CONTROL, &header(GET_FAMILY));
        request.text(FAMILY_NAME, family);
        let reply = socket.get(&format!("to find its part {family}"), request)?;
        let number = reply
            .attributes(HEADER_BYTES)
            .find(FAMILY_NUMBER)
            .and_then(|value| value.try_into().ok())
            .map(u16::from_ne_bytes)
            .ok_or(NetlinkError::Malformed)?;
        Ok(Self {
            socket,
            family: number,
        })
    }

    pub(crate) fn change(
        &mut self,
        what: &str,
        command: u8,
        fill: impl FnOnce(&mut Request),
    ) -> Result<(), NetlinkError> {
        let mut request = Request::acknowledged(self.family, 0, &header(command));
        fill(&mut request);
        self.socket.acknowledge(what, request)
    }

    pub(crate) fn dump(
        &mut self,
        what: &str,
        command: u8,
        fill: impl FnOnce(&mut Request),
    ) -> Result<Vec<Reply>, NetlinkError> {
        let mut request = Request::dump(self.family, &header(command));
        fill(&mut request);
        self.socket.dump(what, &request)
    }
}

fn header(command: u8) -> [u8; HEADER_BYTES] {
    [command, VERSION, 0, 0]
}
