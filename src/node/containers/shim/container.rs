//! A container as its shim sees it: streams, log, attached clients, and how it ended.

use super::logs::{Lines, Log};
use super::protocol::{ContainerIo, ExitRecord, Stream};
use env::Timestamp;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Bytes taken from a stream at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks taken before other streams have their turn.
const CHUNKS_PER_TURN_MAX: usize = 4;
/// Bytes taken after the first process ended: a full pipe, and more if a descendant goes on writing.
const DRAIN_CHUNKS_MAX: usize = 64;
/// How long an attached client may read nothing before it is let go.
pub(super) const SINK_STUCK_MAX: Duration = Duration::from_secs(30);

/// How far along it is.
#[derive(Debug)]
pub(super) enum Phase {
    Starting,
    Running { pid: i32, started_at: i64 },
    Exited { pid: i32, exit: ExitRecord },
}

/// One container.
pub(super) struct Container {
    pub(super) phase: Phase,
    pub(super) io: ContainerIo,
    pub(super) cgroup_path: String,
    /// Its processes are in a pid namespace that outlives the first of them.
    pub(super) kill_leftovers: bool,
    pub(super) log: Log,
    pub(super) outputs: Vec<Output>,
    /// The pipe or terminal that the container reads.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) sinks: Vec<Sink>,
}

/// A stream out of the container.
pub(super) struct Output {
    pub(super) stream: Stream,
    pub(super) fd: OwnedFd,
    lines: Lines,
}

/// A copy of a stream for an attached client.
pub(super) struct Sink {
    pub(super) client: u64,
    pub(super) stream: Stream,
    pub(super) fd: OwnedFd,
    pending: Vec<u8>,
    /// On the monotonic clock.
    stuck_since: Duration,
}

impl Output {
    pub(super) fn new(stream: Stream, fd: OwnedFd) -> io::Result<Output> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Output {
            stream,
            fd,
            lines: Lines::new(stream),
        })
    }
}

impl Sink {
    pub(super) fn new(client: u64, stream: Stream, fd: OwnedFd) -> io::Result<Sink> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Sink {
            client,
            stream,
            fd,
            pending: Vec::new(),
            stuck_since: Duration::ZERO,
        })
    }

    pub(super) fn is_stuck(&self) -> bool {
        !self.pending.is_empty()
    }

    /// False when the client is gone.
    fn write(&mut self, bytes: &[u8], now: Duration) -> bool {
        if self.is_stuck() {
            self.pending.extend_from_slice(bytes);
            return true;
        }
        self.pending.extend_from_slice(bytes);
        self.stuck_since = now;
        self.flush(now)
    }

    /// False when the client is gone or has read nothing for too long.
    pub(super) fn flush(&mut self, now: Duration) -> bool {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.fd, &self.pending) {
                Ok(count) => {
                    self.pending.drain(..count);
                    self.stuck_since = now;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    return now.saturating_sub(self.stuck_since) < SINK_STUCK_MAX;
                }
                Err(_) => return false,
            }
        }
        self.pending = Vec::new();
        true
    }
}

impl Container {
    /// Whether a stream may be read: an attached client that is behind holds it up.
    pub(super) fn wants(&self, output: &Output) -> bool {
        !self
            .sinks
            .iter()
            .any(|sink| sink.stream == output.stream && sink.is_stuck())
    }

    /// Moves what is there of one stream to the log and to attached clients. A stream at its end goes away.
    pub(super) fn pump(&mut self, index: usize, now: Timestamp, monotonic: Duration) {
        self.pump_chunks(index, CHUNKS_PER_TURN_MAX, now, monotonic);
    }

    /// The first process has ended: takes what is left in the pipes and closes them.
    pub(super) fn drain(&mut self, now: Timestamp, monotonic: Duration) {
        while !self.outputs.is_empty() {
            let before = self.outputs.len();
            self.pump_chunks(0, DRAIN_CHUNKS_MAX, now, monotonic);
            if self.outputs.len() == before {
                let mut output = self.outputs.remove(0);
                output.lines.finish(&mut self.log, now);
            }
        }
        self.stdin = None;
        self.sinks.retain(Sink::is_stuck);
    }

    fn pump_chunks(
        &mut self,
        index: usize,
        chunks_max: usize,
        now: Timestamp,
        monotonic: Duration,
    ) {
        let Some(output) = self.outputs.get_mut(index) else {
            return;
        };
        let mut buffer = [0; CHUNK_BYTES];
        for _ in 0..chunks_max {
            match rustix::io::read(&output.fd, &mut buffer) {
                Ok(0) => {
                    let mut ended = self.outputs.remove(index);
                    ended.lines.finish(&mut self.log, now);
                    return;
                }
                Ok(count) => {
                    let chunk = &buffer[..count];
                    output.lines.push(chunk, &mut self.log, now);
                    let stream = output.stream;
                    self.sinks
                        .retain_mut(|sink| sink.stream != stream || sink.write(chunk, monotonic));
                    if self.sinks.iter().any(Sink::is_stuck) && chunks_max == CHUNKS_PER_TURN_MAX {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // A terminal whose other side is closed says EIO.
                Err(_) => {
                    let mut ended = self.outputs.remove(index);
                    ended.lines.finish(&mut self.log, now);
                    return;
                }
            }
        }
    }
}
