//! What runtime and shim say to each other: frames of JSON, each with its length in front, over a socket of root's.
//!
//! Fields may be added; readers ignore what they do not know and writers leave defaults out, so that one release
//! understands the one before and the one after. A change that breaks this raises [`PROTOCOL_VERSION`].

use cri::ReopenLog;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The version a shim speaks, told in its `ready.json`.
pub(crate) const PROTOCOL_VERSION: u32 = 1;
/// The longest frame.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of the length in front of a frame, big-endian.
pub(crate) const LENGTH_BYTES: usize = 4;

/// A call of the runtime. Descriptors travel with the frame.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Answered by `Namespaces` with a descriptor for each.
    Namespaces,
    /// Runs the container whose bundle lies in the sandbox's directory. Answered by `Started`.
    Start {
        container: String,
        io: ContainerIo,
        cgroup_path: String,
        kill_leftovers: bool,
    },
    /// Runs a command in a container. Comes with three descriptors, or none for a terminal. Answered by `Executing`
    /// (with the terminal's descriptor), later by `Ended`; closing the connection before kills the command.
    Exec {
        container: String,
        args: Vec<String>,
        terminal: bool,
    },
    /// Copies output to the descriptors that come along. Answered by `Attached`, with the container's standard
    /// input if wanted and there, later by `Ended`.
    Attach {
        container: String,
        stdin: bool,
        streams: Vec<Stream>,
    },
    Signal {
        container: String,
        number: i32,
    },
    ReopenLog {
        container: String,
        how: ReopenLog,
    },
    /// The container is removed; answered by `Done` also when it was unknown.
    Forget {
        container: String,
    },
    /// Answered by `Containers`; then `Exited` comes for every container that ends.
    Watch,
    Shutdown,
}

/// An answer or an event of the shim.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Namespaces {
        kinds: Vec<String>,
    },
    Started {
        pid: i32,
    },
    Executing,
    Attached {
        has_stdin: bool,
        has_terminal: bool,
    },
    Containers {
        containers: BTreeMap<String, ContainerView>,
    },
    /// A container's program runs; told to those who watch.
    Running {
        container: String,
        pid: i32,
        started_at: i64,
    },
    /// A container ended.
    Exited {
        container: String,
        exit: ExitRecord,
    },
    /// The command of this connection's exec, or the container of its attach, ended.
    Ended {
        code: i32,
    },
    Failed {
        failure: Failure,
    },
}

/// Why a call failed.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Failure {
    UnknownContainer,
    NotRunning,
    /// The program could not be run: `code` is 126 or 127.
    CannotRun {
        code: i32,
        message: String,
    },
    Other {
        message: String,
    },
}

/// How a container's streams are handled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ContainerIo {
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    /// Absolute.
    pub(crate) log_path: PathBuf,
    pub(crate) log_bytes_max: u64,
    pub(crate) log_files_max: u32,
}

/// A container's state in a shim.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ContainerView {
    pub(crate) pid: i32,
    /// Nanoseconds since 1970.
    pub(crate) started_at: i64,
    #[serde(default)]
    pub(crate) exit: Option<ExitRecord>,
}

/// How and when a container ended; also what `exit.json` holds. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) code: i32,
    pub(crate) oom_killed: bool,
    #[serde(default)]
    pub(crate) started_at: Option<i64>,
    pub(crate) finished_at: i64,
    /// Set by the runtime when no process ever ran.
    #[serde(default)]
    pub(crate) start_error: Option<String>,
    /// Set by the runtime when nobody saw the end.
    #[serde(default)]
    pub(crate) unknown: bool,
}

/// An output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A frame ready to be sent.
pub(crate) fn encode(message: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame is too long"));
    }
    let length = u32::try_from(length).expect("below the limit");
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Bytes and descriptors that arrived and are not yet a whole frame.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Something,
    Closed,
}

impl Incoming {
    /// Reads once; `WouldBlock` is an error of the caller's to handle.
    pub(crate) fn read(&mut self, socket: BorrowedFd<'_>) -> io::Result<Received> {
        let mut buffer = [0; 4096];
        let count = linux::unix_socket::receive(socket, &mut buffer, &mut self.descriptors)?;
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(if count == 0 {
            Received::Closed
        } else {
            Received::Something
        })
    }

    /// The next whole frame, if there is one.
    pub(crate) fn next<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(length) = self.bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other("a frame is too long"));
        }
        let end = LENGTH_BYTES + length;
        let Some(frame) = self.bytes.get(LENGTH_BYTES..end) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(frame)?;
        self.bytes.drain(..end);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(message))
    }
}

/// Sends a whole frame with descriptors over a socket that does not block; a full socket is an error.
pub(crate) fn send_now(
    socket: BorrowedFd<'_>,
    message: &impl serde::Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = encode(message)?;
    let mut sent = linux::unix_socket::send(socket, &frame, descriptors)?;
    while sent < frame.len() {
        sent += linux::unix_socket::send(socket, &frame[sent..], &[])?;
    }
    Ok(())
}

/// Borrowed forms of descriptors.
pub(crate) fn borrow(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
