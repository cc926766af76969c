//! `exec`: a command in a container, with a terminal if asked for; its exit code becomes ours.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use clap::Args;
use kube_client::{HttpTransport, Method, object_path, with_query};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::Value;
use streams::handshake::{Encoding, RemoteCommandProtocol, RemoteCommandVersion, UpgradeRequest};
use streams::remote_command::{ClientStreams, ResizeSender, TerminalSize, WantedStreams, connect};
use streams::{ByteReader, ByteWriter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};
use crate::session::Session;
use crate::workloads::{container, pod_behind, pods};

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
/// Bytes of output read at a time.
const BUFFER_BYTES: usize = 16 * 1024;
/// How often a quiet connection is tried.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct ExecCommand {
    /// POD, or TYPE/NAME of what made it
    #[arg(value_name = "POD")]
    pod: String,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// The container
    #[arg(long, short = 'c', value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on
    #[arg(long, short = 'i')]
    stdin: bool,
    /// With a terminal
    #[arg(long, short = 't')]
    tty: bool,
    /// Print only what the command prints
    #[arg(long, short = 'q')]
    quiet: bool,
}

impl ExecCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        if self.command.is_empty() {
            return Err(Error::usage(
                "you must specify at least one command for the container",
            ));
        }
        let pod = pod_behind(&self.pod, session).await?;
        let phase = pod.text_at(&["status", "phase"]);
        if matches!(phase.as_str(), "Succeeded" | "Failed") {
            return Err(Error::usage(format!(
                "cannot exec into a container in a completed pod; current phase is {phase}"
            )));
        }
        let container = container(&pod, self.container.as_deref(), session)?;
        let terminal = self.terminal(session);
        let wanted = WantedStreams {
            stdin: self.stdin,
            stdout: true,
            // A terminal has one stream for both.
            stderr: !terminal,
            tty: terminal,
        };
        let path = object_path(&pods(), Some(pod.namespace()), pod.name(), "exec");
        let path = with_query(path, "container", &container);
        let path = self
            .command
            .iter()
            .fold(path, |path, word| with_query(path, "command", word));
        let path = with_streams(path, wanted);
        let streams = open(&session.http()?, &path, wanted).await?;
        run_streams(streams, terminal, session).await
    }

    /// Whether there is a terminal to hand on.
    fn terminal(&self, session: &mut Session) -> bool {
        if !self.tty {
            return false;
        }
        let has_terminal = isatty(std::io::stdin().as_fd());
        if self.stdin && !has_terminal && !self.quiet {
            session.warn("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        has_terminal || !self.stdin
    }
}

fn with_streams(path: String, wanted: WantedStreams) -> String {
    let flag = |on: bool| if on { "true" } else { "" };
    let path = with_query(path, "stdin", flag(wanted.stdin));
    let path = with_query(path, "stdout", flag(wanted.stdout));
    let path = with_query(path, "stderr", flag(wanted.stderr));
    with_query(path, "tty", flag(wanted.tty))
}

/// Opens the streams of an exec over a WebSocket.
async fn open(http: &HttpTransport, path: &str, wanted: WantedStreams) -> Result<ClientStreams> {
    let upgrade = UpgradeRequest::web_socket(&[V5, V4]);
    let headers: Vec<(&str, &str)> = upgrade
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let (answer, connection) = http.connect(Method::Get, path, &headers).await?;
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer;
    let version = match upgrade.verify(&response).map_err(broken)?.as_str() {
        V5 => RemoteCommandVersion::V5,
        V4 => RemoteCommandVersion::V4,
        other => {
            return Err(Error::usage(format!(
                "the server speaks {other:?}, which is unknown here"
            )));
        }
    };
    let protocol = RemoteCommandProtocol::WebSocket(version, Encoding::Binary);
    connect(connection, protocol, wanted, Some(KEEP_ALIVE))
        .await
        .map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::usage(format!(
        "the connection to the container broke off: {error}"
    ))
}

async fn run_streams(streams: ClientStreams, terminal: bool, session: &mut Session) -> Result<()> {
    let ClientStreams {
        stdin,
        stdout,
        stderr,
        resize,
        outcome,
    } = streams;
    let raw = if terminal { RawTerminal::enter() } else { None };
    if let Some(resize) = resize {
        env::spawn(send_sizes(resize));
    }
    if let Some(stdin) = stdin {
        env::spawn(pass_on(stdin));
    }
    copy_output(stdout, stderr, session).await?;
    let outcome = outcome.read().await.map_err(broken)?;
    drop(raw);
    ended(&outcome)
}

/// Copies both outputs until both have ended.
async fn copy_output(
    mut stdout: Option<ByteReader>,
    mut stderr: Option<ByteReader>,
    session: &mut Session,
) -> Result<()> {
    let mut out_buffer = vec![0; BUFFER_BYTES];
    let mut err_buffer = vec![0; BUFFER_BYTES];
    while stdout.is_some() || stderr.is_some() {
        tokio::select! {
            biased;
            read = read(&mut stdout, &mut out_buffer) => match read {
                0 => stdout = None,
                read => session.print(&out_buffer[..read])?,
            },
            read = read(&mut stderr, &mut err_buffer) => match read {
                0 => stderr = None,
                read => session.err.write_all(&err_buffer[..read])?,
            },
        }
    }
    Ok(())
}

/// The next bytes; 0 at the end, which for a stream that broke off is the same. Never, where there is no stream.
async fn read(stream: &mut Option<ByteReader>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn pass_on(mut stdin: ByteWriter) {
    // Either side may end first; what the command made of it is in its outcome.
    let _copied = tokio::io::copy(&mut tokio::io::stdin(), &mut stdin).await;
    let _ended = stdin.shutdown().await;
}

/// Tells the size of the terminal, now and whenever it changes.
async fn send_sizes(mut resize: ResizeSender) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Ok(size) = tcgetwinsize(std::io::stdin().as_fd()) {
            let size = TerminalSize {
                width: size.ws_col,
                height: size.ws_row,
            };
            if resize.send(size).await.is_err() {
                return;
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// Our terminal, handing every key on; as it was again when this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _gone = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// What the server's last word says of the command.
fn ended(outcome: &[u8]) -> Result<()> {
    if outcome.is_empty() {
        return Err(broken("the server did not say how the command ended"));
    }
    let status: Value = serde_json::from_slice(outcome).map_err(broken)?;
    if status["status"] == "Success" {
        return Ok(());
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let code = causes
        .filter(|cause| cause["reason"] == "ExitCode")
        .find_map(|cause| cause["message"].as_str()?.parse::<u8>().ok());
    match code {
        Some(code) => Err(Error::Command(code)),
        None => Err(Error::usage(format!(
            "Internal error occurred: {}",
            status["message"].as_str().unwrap_or_default()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_exit_code_is_ours() {
        assert!(ended(br#"{"status":"Success"}"#).is_ok());
        let failed = br#"{"status":"Failure","reason":"NonZeroExitCode","message":"x",
            "details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
        let error = ended(failed).expect_err("a failure");
        assert_eq!(error.exit_code(), 42);
        assert_eq!(error.to_string(), "command terminated with exit code 42");
        assert_eq!(ended(b"").expect_err("no word").exit_code(), 1);
    }
}
