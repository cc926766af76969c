//! One blocking netlink socket.

use super::NetlinkError;
use super::attributes::{Attributes, HEADER_BYTES, Message, Request, aligned, read_u32};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, send, setsockopt, socket, sockopt,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const FLAG_MULTI: u16 = 0x2;
/// A dump was disturbed by a change and may hold each object in either state.
const FLAG_DUMP_DISTURBED: u16 = 0x10;
/// The error message does not repeat the request.
const FLAG_CAPPED: u16 = 0x100;
const FLAG_EXTENDED: u16 = 0x200;
const OPTION_EXTENDED_ERRORS: libc::c_int = 11;
const OPTION_CAPPED_ERRORS: libc::c_int = 10;
const EXTENDED_TEXT: u16 = 1;
/// Enough for every datagram that the kernel makes of a dump.
const RECEIVE_BYTES: usize = 128 * 1024;
/// How often a dump that was disturbed is repeated.
const DUMP_TRIES_MAX: u32 = 10;

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// `nf_tables` and conntrack.
    NetFilter,
    /// Parts of the kernel that are known by name.
    Generic,
}

/// A socket to one part of the kernel, in the network namespace where it was opened.
#[derive(Debug)]
pub struct Socket {
    file: OwnedFd,
    sequence: u32,
    port: u32,
}

/// A message of the kernel, copied out.
#[derive(Debug, Clone)]
pub struct Reply {
    pub kind: u16,
    pub payload: Vec<u8>,
}

impl Reply {
    pub fn attributes(&self, fixed: usize) -> Attributes<'_> {
        Attributes(self.payload.get(fixed..).unwrap_or_default())
    }
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        let wanted = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::NetFilter => SockProtocol::NetlinkNetFilter,
            Protocol::Generic => SockProtocol::NetlinkGeneric,
        };
        let file = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            wanted,
        )
        .map_err(doing("open a netlink socket"))?;
        bind(file.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(doing("bind a netlink socket"))?;
        let address: NetlinkAddr =
            getsockname(file.as_raw_fd()).map_err(doing("read the netlink socket's port"))?;
        let socket = Self {
            file,
            sequence: 1,
            port: address.pid(),
        };
        for option in [OPTION_EXTENDED_ERRORS, OPTION_CAPPED_ERRORS] {
            socket.switch_on(option)?;
        }
        Ok(socket)
    }

    /// Sizes the kernel's buffers; needs `CAP_NET_ADMIN` because it goes beyond the machine's default limits.
    pub fn set_buffers(&self, send_bytes: usize, receive_bytes: usize) -> Result<(), NetlinkError> {
        setsockopt(&self.file, sockopt::SndBufForce, &send_bytes)
            .map_err(doing("size the send buffer"))?;
        setsockopt(&self.file, sockopt::RcvBufForce, &receive_bytes)
            .map_err(doing("size the receive buffer"))
    }

    /// Hears the notifications of a multicast group (`NFNLGRP_*`, `RTNLGRP_*`) from now on.
    pub fn join(&self, group: u32) -> Result<(), NetlinkError> {
        const OPTION_ADD_MEMBERSHIP: libc::c_int = 1;
        self.set_option(OPTION_ADD_MEMBERSHIP, group.cast_signed())
    }

    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends one message and waits for its acknowledgement. `what` completes "the kernel refused …".
    pub(crate) fn acknowledge(&mut self, what: &str, request: Request) -> Result<(), NetlinkError> {
        let sequence = self.transmit(request)?;
        self.collect(what, sequence, |_| {}).map(|_disturbed| ())
    }

    /// Sends one message and returns the object that answers it.
    pub(crate) fn get(&mut self, what: &str, request: Request) -> Result<Reply, NetlinkError> {
        let sequence = self.transmit(request)?;
        let mut found = None;
        let mut buffer = vec![0; RECEIVE_BYTES];
        while found.is_none() {
            let length = self.receive(&mut buffer, MsgFlags::empty())?;
            for message in
                Message::split(&buffer[..length]).filter(|message| message.sequence == sequence)
            {
                if message.kind == KIND_ERROR {
                    return Err(refusal(what, &message).unwrap_or(NetlinkError::Malformed));
                }
                found = Some(Reply {
                    kind: message.kind,
                    payload: message.payload.to_vec(),
                });
            }
        }
        found.ok_or(NetlinkError::Malformed)
    }

    /// Sends a dump request and returns all objects of one undisturbed dump.
    pub(crate) fn dump(
        &mut self,
        what: &str,
        request: &Request,
    ) -> Result<Vec<Reply>, NetlinkError> {
        for _try in 0..DUMP_TRIES_MAX {
            let mut replies = Vec::new();
            let sequence = self.transmit(request.clone())?;
            let disturbed = self.collect(what, sequence, |message| {
                replies.push(Reply {
                    kind: message.kind,
                    payload: message.payload.to_vec(),
                });
            })?;
            if !disturbed {
                return Ok(replies);
            }
        }
        Err(NetlinkError::Overrun)
    }

    /// Sends a batch whose last inner message asks for an acknowledgement and gathers every refusal.
    ///
    /// The kernel runs the whole batch inside `send`, so all answers are queued when it returns. An acknowledgement
    /// counts only if it is that of the batch's last message: older ones may lie in the queue.
    pub(crate) fn run_batch(
        &mut self,
        request: Request,
        acknowledged: u32,
        describe: impl Fn(u32) -> String,
    ) -> Result<(), NetlinkError> {
        let first = self.transmit(request)?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut refused = None;
        loop {
            let length = match self.receive(&mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(NetlinkError::Socket { source, .. })
                    if source.kind() == io::ErrorKind::WouldBlock =>
                {
                    return Err(refused.unwrap_or(NetlinkError::Overrun));
                }
                Err(other) => return Err(other),
            };
            for message in
                Message::split(&buffer[..length]).filter(|message| message.kind == KIND_ERROR)
            {
                let position = message.sequence.wrapping_sub(first);
                match refusal(&describe(position), &message) {
                    Some(error) => refused = refused.or(Some(error)),
                    None if position == acknowledged && refused.is_none() => return Ok(()),
                    None => {}
                }
            }
        }
    }

    /// Reads the notifications that are queued; `Err(Overrun)` when some were lost. Never waits.
    pub fn notifications(&self, mut each: impl FnMut(&Message<'_>)) -> Result<(), NetlinkError> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            match self.receive(&mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => Message::split(&buffer[..length]).for_each(|message| each(&message)),
                Err(NetlinkError::Socket { source, .. })
                    if source.kind() == io::ErrorKind::WouldBlock =>
                {
                    return Ok(());
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn transmit(&mut self, request: Request) -> Result<u32, NetlinkError> {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(request.messages().max(1));
        let bytes = request.finish(first);
        send(self.file.as_raw_fd(), &bytes, MsgFlags::empty())
            .map_err(doing("send a netlink request"))?;
        Ok(first)
    }

    /// Hands every answer to `each` until the request is done; tells whether a dump was disturbed.
    fn collect(
        &self,
        what: &str,
        sequence: u32,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<bool, NetlinkError> {
        let mut disturbed = false;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let length = self.receive(&mut buffer, MsgFlags::empty())?;
            for message in
                Message::split(&buffer[..length]).filter(|message| message.sequence == sequence)
            {
                disturbed |= message.flags & FLAG_DUMP_DISTURBED != 0;
                match message.kind {
                    KIND_ERROR => return refusal(what, &message).map_or(Ok(disturbed), Err),
                    KIND_DONE => return Ok(disturbed),
                    _ => each(&message),
                }
                if message.flags & FLAG_MULTI == 0 {
                    return Ok(disturbed);
                }
            }
        }
    }

    fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> Result<usize, NetlinkError> {
        loop {
            match recv(self.file.as_raw_fd(), buffer, flags) {
                Ok(length) => return Ok(length),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::ENOBUFS) => return Err(NetlinkError::Overrun),
                Err(error) => return Err(doing("read a netlink answer")(error)),
            }
        }
    }

    fn switch_on(&self, option: libc::c_int) -> Result<(), NetlinkError> {
        self.set_option(option, 1)
    }

    fn set_option(&self, option: libc::c_int, value: libc::c_int) -> Result<(), NetlinkError> {
        const VALUE_BYTES: libc::socklen_t = 4;
        // SAFETY: the option's value is one int, which lives on the stack for the whole call, and the length says so.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::setsockopt(
                self.file.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                std::ptr::from_ref(&value).cast(),
                VALUE_BYTES,
            )
        };
        nix::Error::result(result)
            .map(|_zero| ())
            .map_err(doing("set a netlink socket option"))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

fn doing(what: &'static str) -> impl Fn(nix::Error) -> NetlinkError {
    move |error| NetlinkError::Socket {
        doing: what,
        source: error.into(),
    }
}

/// The error that a message of kind ERROR carries; nothing for an acknowledgement.
fn refusal(what: &str, message: &Message<'_>) -> Option<NetlinkError> {
    if message.payload.len() < 4 + HEADER_BYTES {
        return Some(NetlinkError::Malformed);
    }
    let number = read_u32(message.payload, 0).cast_signed();
    if number == 0 {
        return None;
    }
    let repeated = if message.flags & FLAG_CAPPED == 0 {
        aligned(read_u32(message.payload, 4) as usize)
    } else {
        HEADER_BYTES
    };
    let text = (message.flags & FLAG_EXTENDED != 0)
        .then(|| {
            message
                .attributes(4 + repeated)
                .find_text(EXTENDED_TEXT)
                .map(str::to_owned)
        })
        .flatten();
    Some(NetlinkError::Refused {
        doing: what.to_owned(),
        number: -number,
        text,
    })
}
