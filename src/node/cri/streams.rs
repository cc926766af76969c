//! Byte streams of exec, attach and port-forward.

use crate::Result;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes out of a container.
pub type ByteReader = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes into a container. Shutting it down or dropping it is end-of-file for the process.
pub type ByteWriter = Box<dyn AsyncWrite + Send + Unpin>;
/// Changes the size of a terminal.
pub type Resize = Arc<dyn Fn(TerminalSize) -> Result<()> + Send + Sync>;

/// A connection into a pod's network namespace.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Which standard streams a caller wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stdio {
    pub stdin: bool,
    pub stdout: bool,
    /// Never together with a terminal, where both arrive as stdout.
    pub stderr: bool,
}

/// A command to run in a running container, with the container's user, limits and filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub tty: bool,
    pub stdio: Stdio,
}

/// Streams of an attach to a container's first process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attachment {
    pub stdio: Stdio,
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// A running exec or attach. Dropping it before the exit kills an exec, and only detaches an attach.
pub struct ExecSession {
    pub stdin: Option<ByteWriter>,
    pub stdout: Option<ByteReader>,
    pub stderr: Option<ByteReader>,
    /// There for a terminal only.
    pub resize: Option<Resize>,
    /// Resolves with the exit code when the process has ended (128 + signal when a signal ended it).
    pub exit: BoxFuture<'static, Result<i32>>,
}

/// What `exec_sync` returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// The first 16 MiB of output; what comes after is read and dropped.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

impl ExecOutput {
    /// The longest output of one stream that is kept, as in CRI's `ExecSync`.
    pub const BYTES_MAX: usize = 16 * 1024 * 1024;
    /// How long output may still arrive after the process ended (a descendant may hold the pipe).
    pub const DRAIN_MAX: Duration = Duration::from_secs(2);
}
