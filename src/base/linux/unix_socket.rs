//! Unix sockets whose paths may be longer than an address allows, and messages that carry descriptors.

use crate::error::{Doing, Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, socket_with,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Descriptors that one message may carry.
pub const DESCRIPTORS_MAX: usize = 8;
/// Connections that wait to be accepted.
const WAITING_MAX: i32 = 128;

/// Listens at a path of any length, mode 0600; what was at the path is removed.
pub fn listen(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).doing(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let (_directory, short) = short_path(path)?;
    bind(&short).doing(|| format!("listen at {}", path.display()))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file gets the mode that the socket has, so that nobody else can connect at any moment.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, WAITING_MAX)?;
    Ok(socket.into())
}

/// Connects to a path of any length. Does not block: the peer's backlog is full or not.
pub fn connect(path: &Path) -> Result<UnixStream> {
    let (_directory, short) = short_path(path)?;
    UnixStream::connect(&short).doing(|| format!("connect to {}", path.display()))
}

/// Keep the directory open while the path is used.
fn short_path(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Err(Error::other(
            format!("open {}", path.display()),
            "not a path of a socket",
        ));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())
        .doing(|| format!("open {}", parent.display()))?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    short.push(name);
    Ok((directory, short))
}

/// Sends bytes and, with the first of them, descriptors. Returns how many bytes were taken.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let slices = [IoSlice::new(bytes)];
    Ok(rustix::net::sendmsg(
        socket,
        &slices,
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Receives bytes and the descriptors that came with them (close-on-exec). 0 bytes: the peer closed.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received =
        rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}

/// The uid of the process at the other end.
pub fn peer_uid(socket: &impl AsFd) -> Result<u32> {
    let credentials = rustix::net::sockopt::socket_peercred(socket);
    Ok(credentials
        .doing(|| "read peer credentials".to_owned())?
        .uid
        .as_raw())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_socket_at_a_path_longer_than_an_address_works() {
        let mut directory = std::env::temp_dir().join(format!("long-{}", std::process::id()));
        let root = directory.clone();
        directory.push("d".repeat(100));
        directory.push("e".repeat(100));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let listener = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let client = connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        send(client.as_fd(), b"x", &[reader.as_fd()]).unwrap();
        let mut received = Vec::new();
        assert_eq!(
            receive(server.as_fd(), &mut [0; 8], &mut received).unwrap(),
            1
        );
        assert_eq!(received.len(), 1);
        assert_eq!(
            peer_uid(&server).unwrap(),
            rustix::process::getuid().as_raw()
        );
        std::fs::remove_dir_all(&root).unwrap();
    }
}
