//! Connections of this process whose local address the machine has lost: nothing is sent over them any more, and nothing that
//! arrives is for them, but without a word they hang for minutes.

use crate::error::{Doing, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::net::{IpAddr, SocketAddr};

const DESCRIPTORS: &str = "/proc/self/fd";

/// Ends those connections of this process (TCP, connected) whose local address `is_lost`, and returns how many they were. Whoever
/// reads or writes there is told at once, as if the other side had closed.
pub fn end_own_connections(is_lost: impl Fn(IpAddr) -> bool) -> Result<usize> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).doing(|| "open this process".to_owned())?;
    let listed = std::fs::read_dir(DESCRIPTORS).doing(|| format!("read {DESCRIPTORS}"))?;
    let mut ended = 0;
    for entry in listed.flatten() {
        let Some(number) = descriptor(&entry) else {
            continue;
        };
        // A number can be another file's by now; the copy stays what it is from the look until the end.
        let Ok(copy) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        if local_address(&copy).is_some_and(&is_lost) {
            // One that ended by itself in the meantime is as good.
            ended += usize::from(rustix::net::shutdown(&copy, Shutdown::Both).is_ok());
        }
    }
    Ok(ended)
}

/// The number of a descriptor that is a socket.
fn descriptor(entry: &std::fs::DirEntry) -> Option<i32> {
    let target = std::fs::read_link(entry.path()).ok()?;
    let is_socket = target.to_str()?.starts_with("socket:");
    entry
        .file_name()
        .to_str()?
        .parse()
        .ok()
        .filter(|_number| is_socket)
}

/// The local address of a connected TCP socket.
fn local_address(socket: &OwnedFd) -> Option<IpAddr> {
    if sockopt::socket_type(socket) != Ok(SocketType::STREAM) {
        return None;
    }
    let local = rustix::net::getsockname(socket).ok()?;
    let local = SocketAddr::try_from(local).ok()?;
    match rustix::net::getpeername(socket) {
        Err(Errno::NOTCONN) => None,
        _ => Some(local.ip().to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn connections_from_a_lost_address_end_and_no_others_do() {
        let lost = Ipv4Addr::new(127, 9, 8, 7);
        let listener = TcpListener::bind((lost, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut kept = TcpStream::connect(other.local_addr().unwrap()).unwrap();
        let (mut kept_peer, _) = other.accept().unwrap();
        let connected = TcpStream::connect(address).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        // Both ends are of this process; the listener has no peer and goes on.
        let ended = end_own_connections(|address| address == IpAddr::from(lost)).unwrap();
        assert!(ended >= 1, "{ended}");
        let mut nothing = Vec::new();
        assert_eq!(accepted.read_to_end(&mut nothing).unwrap_or(0), 0);
        drop(connected);
        let _again = TcpStream::connect(address).unwrap();
        kept.write_all(b"x").unwrap();
        let mut one = [0];
        kept_peer.read_exact(&mut one).unwrap();
        assert_eq!(&one, b"x");
    }
}
