//! Exec, attach and port-forward.

use super::shim_client::{ShimConnection, describe};
use super::state::Phase;
use super::streams::DescriptorStream;
use super::{Inner, blocking, sandboxes};
use crate::error::internal;
use crate::shim::protocol::{Answer, Failure, Request, Stream};
use cri::{
    Attachment, ByteStream, ContainerId, Error, ExecOutput, ExecRequest, ExecSession,
    NamespaceMode, PodSandboxId, Resize, Result, Stdio,
};
use linux::namespaces::{NamespaceKind, in_namespace};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a port of the pod may take to accept.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(30);

/// Starts a command in a running container.
pub(super) async fn exec(
    inner: &Inner,
    id: &ContainerId,
    request: ExecRequest,
) -> Result<ExecSession> {
    let mut connection = connect_to(inner, id)?;
    let call = Request::Exec {
        container: id.0.clone(),
        args: request.command,
        terminal: request.tty,
    };
    let ends = if request.tty {
        Ends::none()
    } else {
        Ends::pipes(request.stdio).map_err(internal)?
    };
    let answer = connection.call(&call, &ends.inside).await?;
    drop(ends.inside);
    answer.map_err(|failure| exec_error(id, failure))?;
    let mut session = if request.tty {
        let terminal = connection.take_descriptors().pop();
        terminal_session(
            terminal.ok_or_else(|| internal("no terminal came"))?,
            request.stdio,
        )?
    } else {
        Session {
            stdin: ends.stdin,
            stdout: ends.stdout,
            stderr: ends.stderr,
            resize: None,
        }
    };
    Ok(session.take(connection))
}

/// Runs a command to its end and keeps what it wrote.
pub(super) async fn exec_sync(
    inner: &Inner,
    id: &ContainerId,
    command: Vec<String>,
    timeout: Option<Duration>,
) -> Result<ExecOutput> {
    let stdio = Stdio {
        stdin: false,
        stdout: true,
        stderr: true,
    };
    let what = format!("command {:?}", command.join(" "));
    let run = async {
        let session = exec(
            inner,
            id,
            ExecRequest {
                command,
                tty: false,
                stdio,
            },
        )
        .await?;
        collect(session).await
    };
    match timeout {
        // Dropping the session kills the command.
        Some(limit) => env::timeout(limit, run)
            .await
            .map_err(|_| Error::Timeout(what))?,
        None => run.await,
    }
}

/// Output may go on after the end of the command when a descendant holds the pipe: then it is cut.
async fn collect(session: ExecSession) -> Result<ExecOutput> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut exit = session.exit;
    let code = {
        let (out, err) = (session.stdout, session.stderr);
        let mut reading = Box::pin(async {
            tokio::join!(read_all(out, &mut stdout), read_all(err, &mut stderr))
        });
        tokio::select! {
            biased;
            code = &mut exit => {
                let code = code?;
                let _ = env::timeout(ExecOutput::DRAIN_MAX, &mut reading).await;
                code
            }
            _ = &mut reading => exit.await?,
        }
    };
    Ok(ExecOutput {
        stdout,
        stderr,
        exit_code: code,
    })
}

async fn read_all(reader: Option<cri::ByteReader>, out: &mut Vec<u8>) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; 8192];
    // A stream that breaks has ended.
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let room = ExecOutput::BYTES_MAX - out.len();
        out.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// Copies streams of the first process from now on.
pub(super) async fn attach(
    inner: &Inner,
    id: &ContainerId,
    attachment: Attachment,
) -> Result<ExecSession> {
    let mut connection = connect_to(inner, id)?;
    let entry = inner.container(id)?;
    let mut stdio = attachment.stdio;
    // A terminal has one stream out.
    stdio.stderr = stdio.stderr && !entry.record.config.tty;
    let ends = Ends::outputs(stdio).map_err(internal)?;
    let mut streams = Vec::new();
    streams.extend(ends.stdout.as_ref().map(|_| Stream::Stdout));
    streams.extend(ends.stderr.as_ref().map(|_| Stream::Stderr));
    let call = Request::Attach {
        container: id.0.clone(),
        stdin: stdio.stdin,
        streams,
    };
    let answer = connection.call(&call, &ends.inside).await?;
    drop(ends.inside);
    let Answer::Attached {
        has_stdin,
        has_terminal,
    } = answer.map_err(|failure| exec_error(id, failure))?
    else {
        return Err(internal("the shim answered something else"));
    };
    let received = connection.take_descriptors().pop();
    let mut session = Session {
        stdin: None,
        stdout: ends.stdout,
        stderr: ends.stderr,
        resize: None,
    };
    if let Some(fd) = received {
        if has_terminal {
            session.resize = Some(resizer(fd.try_clone().map_err(internal)?));
        }
        if has_stdin {
            session.stdin = Some(DescriptorStream::new(fd).map_err(internal)?);
        }
    }
    Ok(session.take(connection))
}

/// Connects to a port inside the sandbox's network namespace, over IPv4 first.
pub(super) async fn port_forward(
    inner: &Arc<Inner>,
    id: &PodSandboxId,
    port: u16,
) -> Result<Box<dyn ByteStream>> {
    let sandbox = inner.sandbox(id)?;
    let netns = match sandbox.record.config.namespaces.network {
        NamespaceMode::Node => None,
        NamespaceMode::Pod => sandboxes::namespace(&sandbox.dir, NamespaceKind::Network).await?,
    };
    let stream = blocking(move || {
        let connected = match &netns {
            Some(netns) => in_namespace(netns, || connect_local(port)).map_err(internal)?,
            None => connect_local(port),
        };
        connected.map_err(|error| {
            Error::Internal(format!(
                "failed to connect to localhost:{port} inside namespace: {error}"
            ))
        })
    })
    .await?;
    stream.set_nonblocking(true).map_err(internal)?;
    Ok(Box::new(
        tokio::net::TcpStream::from_std(stream).map_err(internal)?,
    ))
}

fn connect_local(port: u16) -> std::io::Result<TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&v4, CONNECT_WAIT_MAX)
        .or_else(|first| TcpStream::connect_timeout(&v6, CONNECT_WAIT_MAX).map_err(|_| first))
}

fn connect_to(inner: &Inner, id: &ContainerId) -> Result<ShimConnection> {
    let (entry, sandbox) = inner.container_and_sandbox(id)?;
    if !matches!(entry.phase(), Phase::Running { .. }) {
        return Err(Error::ContainerState {
            id: id.clone(),
            wanted: "running",
        });
    }
    ShimConnection::connect(&sandbox.dir)
}

fn exec_error(id: &ContainerId, failure: Failure) -> Error {
    match failure {
        Failure::CannotRun { code, message } => Error::Exec { code, message },
        Failure::UnknownContainer | Failure::NotRunning => Error::ContainerState {
            id: id.clone(),
            wanted: "running",
        },
        other @ Failure::Other { .. } => internal(describe(&other)),
    }
}

/// Our ends of a process's streams and the ends inside.
struct Ends {
    inside: Vec<OwnedFd>,
    stdin: Option<DescriptorStream>,
    stdout: Option<DescriptorStream>,
    stderr: Option<DescriptorStream>,
}

impl Ends {
    fn none() -> Ends {
        Ends {
            inside: Vec::new(),
            stdin: None,
            stdout: None,
            stderr: None,
        }
    }

    /// Always three ends inside; what nobody wants is /dev/null.
    fn pipes(wanted: Stdio) -> std::io::Result<Ends> {
        let mut ends = Ends::none();
        if wanted.stdin {
            let (inside, ours) = std::io::pipe()?;
            ends.inside.push(inside.into());
            ends.stdin = Some(DescriptorStream::new(ours.into())?);
        } else {
            ends.inside.push(std::fs::File::open("/dev/null")?.into());
        }
        for (is_wanted, ours) in [
            (wanted.stdout, &mut ends.stdout),
            (wanted.stderr, &mut ends.stderr),
        ] {
            if is_wanted {
                let (reader, inside) = std::io::pipe()?;
                ends.inside.push(inside.into());
                *ours = Some(DescriptorStream::new(reader.into())?);
            } else {
                let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
                ends.inside.push(null.into());
            }
        }
        Ok(ends)
    }

    /// One end inside for each stream that is wanted.
    fn outputs(wanted: Stdio) -> std::io::Result<Ends> {
        let mut ends = Ends::none();
        for (is_wanted, ours) in [
            (wanted.stdout, &mut ends.stdout),
            (wanted.stderr, &mut ends.stderr),
        ] {
            if is_wanted {
                let (reader, inside) = std::io::pipe()?;
                ends.inside.push(inside.into());
                *ours = Some(DescriptorStream::new(reader.into())?);
            }
        }
        Ok(ends)
    }
}

struct Session {
    stdin: Option<DescriptorStream>,
    stdout: Option<DescriptorStream>,
    stderr: Option<DescriptorStream>,
    resize: Option<Resize>,
}

impl Session {
    fn take(&mut self, mut connection: ShimConnection) -> ExecSession {
        fn boxed<T: AsyncRead + Send + Unpin + 'static>(reader: T) -> cri::ByteReader {
            Box::new(reader)
        }
        ExecSession {
            stdin: self
                .stdin
                .take()
                .map(|stdin| Box::new(stdin) as cri::ByteWriter),
            stdout: self.stdout.take().map(boxed),
            stderr: self.stderr.take().map(boxed),
            resize: self.resize.take(),
            exit: Box::pin(async move {
                while let Some(answer) = connection.next().await.map_err(internal)? {
                    if let Answer::Ended { code } = answer {
                        return Ok(code);
                    }
                }
                Err(internal("the shim is gone"))
            }),
        }
    }
}

fn terminal_session(terminal: OwnedFd, wanted: Stdio) -> Result<Session> {
    let copy = |terminal: &OwnedFd| terminal.try_clone().map_err(internal);
    let stream = |fd: OwnedFd| DescriptorStream::new(fd).map_err(internal);
    Ok(Session {
        stdin: if wanted.stdin {
            Some(stream(copy(&terminal)?)?)
        } else {
            None
        },
        stdout: if wanted.stdout {
            Some(stream(copy(&terminal)?)?)
        } else {
            None
        },
        stderr: None,
        resize: Some(resizer(terminal)),
    })
}

fn resizer(terminal: OwnedFd) -> Resize {
    Arc::new(move |size| {
        let size = rustix::termios::Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&terminal, size).map_err(internal)
    })
}
