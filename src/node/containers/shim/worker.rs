//! Calls of libcontainer, each in a forked child of the shim: they change the process that makes them.
//!
//! Legal order is a type: a [`Bundle`] becomes [`Created`], and that becomes [`Started`].
#![allow(unsafe_code)]

use super::diagnostics::Diagnostics;
use super::protocol::{Failure, send_now};
use crate::executor::{LastMile, Role};
use crate::layout::SandboxDir;
use crate::plan::{Launch, ProcessPlan};
use crate::spec::process_document;
use cri::ContainerId;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;

/// The longest reason that is passed on, in bytes.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// Standard streams of a process to be.
pub(super) enum ProcessIo {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    Terminal,
}

/// What a worker tells the shim; the terminal's descriptor travels along.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Reply {
    Running { pid: i32 },
    Failed { failure: Failure },
}

/// A process that runs its program.
struct Running {
    pid: i32,
    terminal: Option<OwnedFd>,
}

/// Forks a worker that starts a container; its reply comes through the returned socket.
pub(super) fn start(dir: &SandboxDir, container: &str, io: ProcessIo) -> linux::Result<UnixStream> {
    let bundle = Bundle {
        dir: dir.clone(),
        id: ContainerId(container.to_owned()),
    };
    fork_worker(move || {
        let created = bundle.create(io)?;
        let started = created.start()?;
        Ok(started.0)
    })
}

/// Forks a worker that runs a command in a container.
pub(super) fn exec(
    dir: &SandboxDir,
    container: &str,
    args: Vec<String>,
    io: ProcessIo,
    user_namespace: Option<RawFd>,
) -> linux::Result<UnixStream> {
    let bundle = Bundle {
        dir: dir.clone(),
        id: ContainerId(container.to_owned()),
    };
    fork_worker(move || bundle.exec(args, io, user_namespace))
}

/// libcontainer leaves the sockets of each exec behind. Only while no exec of the container is being started.
pub(super) fn remove_exec_sockets(dir: &SandboxDir, container: &str) {
    let Ok(entries) = std::fs::read_dir(dir.state().join(container)) else {
        return;
    };
    let left =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("tenant-");
    for entry in entries.flatten().filter(left) {
        drop(std::fs::remove_file(entry.path()));
    }
}

/// A prepared container: configuration and plan are on disk.
struct Bundle {
    dir: SandboxDir,
    id: ContainerId,
}

/// Its first process waits for start.
struct Created {
    container: Container,
    report: Report,
    console: Option<Console>,
}

/// Its first process runs the program.
struct Started(Running);

impl Bundle {
    fn create(self, io: ProcessIo) -> Result<Created, Failure> {
        let launch = self.launch()?;
        set_oom_score(launch.oom_score_adj);
        let (report, report_end) = Report::new()?;
        let executor = LastMile {
            plan: Rc::new(launch.plan),
            user_namespace: None,
            role: Role::First,
            report: report_end.as_raw_fd(),
        };
        let (builder, console) = self.builder(executor, io)?;
        let bundle = self.dir.container(&self.id);
        let container = builder
            .as_init(bundle.path())
            .with_systemd(false)
            .with_detach(true)
            .as_sibling(true)
            .build()
            .map_err(|error| cannot_run(&error))?;
        drop(report_end);
        Ok(Created {
            container,
            report,
            console,
        })
    }

    fn exec(
        self,
        args: Vec<String>,
        io: ProcessIo,
        user_namespace: Option<RawFd>,
    ) -> Result<Running, Failure> {
        let launch = self.launch()?;
        set_oom_score(launch.oom_score_adj);
        let (report, report_end) = Report::new()?;
        let executor = LastMile {
            plan: Rc::new(ProcessPlan {
                args,
                ..launch.plan
            }),
            user_namespace,
            role: Role::Exec,
            report: report_end.as_raw_fd(),
        };
        let has_terminal = matches!(io, ProcessIo::Terminal);
        let (builder, console) = self.builder(executor, io)?;
        let document = memory_file(process_document(has_terminal).to_string().as_bytes())?;
        let built = builder
            .as_tenant()
            .with_process(Some(format!("/proc/self/fd/{}", document.as_raw_fd())))
            .with_detach(true)
            .as_sibling(true)
            .build();
        let pid = built.map_err(|error| cannot_run(&error))?.as_raw();
        drop(report_end);
        report.wait()?;
        let terminal = console.map(Console::accept).transpose()?;
        Ok(Running { pid, terminal })
    }

    fn launch(&self) -> Result<Launch, Failure> {
        let bytes = std::fs::read(self.dir.container(&self.id).launch()).map_err(other)?;
        serde_json::from_slice(&bytes).map_err(other)
    }

    fn builder(
        &self,
        executor: LastMile,
        io: ProcessIo,
    ) -> Result<(ContainerBuilder, Option<Console>), Failure> {
        let builder = ContainerBuilder::new(self.id.0.clone(), SyscallType::default())
            .with_root_path(self.dir.state())
            .map_err(other)?
            .with_executor(executor);
        match io {
            ProcessIo::Pipes {
                stdin,
                stdout,
                stderr,
            } => Ok((
                builder
                    .with_stdin(stdin)
                    .with_stdout(stdout)
                    .with_stderr(stderr),
                None,
            )),
            ProcessIo::Terminal => {
                let console = Console::listen(&self.dir)?;
                Ok((
                    builder.with_console_socket(Some(console.path.clone())),
                    Some(console),
                ))
            }
        }
    }
}

impl Created {
    fn start(mut self) -> Result<Started, Failure> {
        self.container.start().map_err(|error| cannot_run(&error))?;
        self.report.wait()?;
        let pid = self
            .container
            .pid()
            .ok_or_else(|| other("the container has no process"))?;
        let terminal = self.console.map(Console::accept).transpose()?;
        Ok(Started(Running {
            pid: pid.as_raw(),
            terminal,
        }))
    }
}

/// The read end of the executor's pipe.
struct Report {
    pipe: std::io::PipeReader,
}

impl Report {
    fn new() -> Result<(Report, std::io::PipeWriter), Failure> {
        let (pipe, end) = std::io::pipe().map_err(other)?;
        Ok((Report { pipe }, end))
    }

    /// Returns when execve is done, or with the reason why it was not.
    fn wait(self) -> Result<(), Failure> {
        let mut message = String::new();
        self.pipe
            .take(MESSAGE_BYTES_MAX)
            .read_to_string(&mut message)
            .map_err(other)?;
        if message.is_empty() {
            return Ok(());
        }
        let code = if message.contains("no such file") {
            127
        } else {
            126
        };
        Err(Failure::CannotRun { code, message })
    }
}

/// Where libcontainer sends the terminal.
struct Console {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl Console {
    /// libcontainer goes to the socket's directory first, so the name alone must fit an address.
    fn listen(dir: &SandboxDir) -> Result<Console, Failure> {
        let path = dir.path().join(format!("console-{}", std::process::id()));
        let listener = linux::unix_socket::listen(&path).map_err(other)?;
        Ok(Console { listener, path })
    }

    fn accept(self) -> Result<OwnedFd, Failure> {
        let (socket, _) = self.listener.accept().map_err(other)?;
        drop(std::fs::remove_file(&self.path));
        let mut descriptors = Vec::new();
        linux::unix_socket::receive(socket.as_fd(), &mut [0; 64], &mut descriptors)
            .map_err(other)?;
        descriptors.pop().ok_or_else(|| other("no terminal came"))
    }
}

fn fork_worker(work: impl FnOnce() -> Result<Running, Failure>) -> linux::Result<UnixStream> {
    use linux::Doing;
    let (ours, theirs) = UnixStream::pair().doing(|| "make a socket pair".to_owned())?;
    linux::process::fork_child(|| {
        reset_signals();
        let diagnostics = Diagnostics::listen().ok();
        let (reply, terminal) = match work() {
            Ok(running) => (Reply::Running { pid: running.pid }, running.terminal),
            Err(failure) => {
                let failure = explain(failure, diagnostics.and_then(Diagnostics::first));
                (Reply::Failed { failure }, None)
            }
        };
        let descriptors: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
        i32::from(send_now(theirs.as_fd(), &reply, &descriptors).is_err())
    })?;
    Ok(ours)
}

/// Adds what libcontainer said to an error that is not about the program itself.
fn explain(failure: Failure, said: Option<String>) -> Failure {
    match (failure, said) {
        (Failure::CannotRun { code, message }, Some(said))
            if !message.starts_with("exec") && !message.starts_with("chdir") =>
        {
            Failure::CannotRun {
                code,
                message: format!("{message}: {said}"),
            }
        }
        (failure, _) => failure,
    }
}

const FIRST_REAL_TIME_SIGNAL: libc::c_long = 32;
const LAST_SIGNAL: libc::c_long = 64;
const MASK_BYTES: usize = 8;
/// The kernel's `struct sigaction` of zeros.
const DEFAULT_ACTION: [u64; 4] = [0; 4];

/// The container must not inherit what the shim and Rust's runtime block and ignore.
fn reset_signals() {
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    for signal in Signal::iterator() {
        // SAFETY: the default action is no handler of ours. SIGKILL and SIGSTOP refuse, which is fine.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
    // The C library keeps the first real-time signals for itself and refuses to touch them; a parent may have ignored them.
    for signal in FIRST_REAL_TIME_SIGNAL..=LAST_SIGNAL {
        // SAFETY: the kernel reads 32 bytes of zeros: the default action, no flags, no restorer, an empty mask.
        let _ = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT_ACTION.as_ptr(),
                0,
                MASK_BYTES,
            )
        };
    }
}

/// Lowering it below what the server has needs `CAP_SYS_RESOURCE`; a container runs without it, too.
fn set_oom_score(score: Option<i32>) {
    drop(std::fs::write(
        "/proc/self/oom_score_adj",
        score.unwrap_or(0).to_string(),
    ));
}

fn memory_file(bytes: &[u8]) -> Result<OwnedFd, Failure> {
    let fd = rustix::fs::memfd_create("process", rustix::fs::MemfdFlags::CLOEXEC).map_err(other)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).map_err(other)?;
    Ok(file.into())
}

/// The innermost cause says what is wrong; the layers above it only say that something is.
fn cannot_run(error: &dyn std::error::Error) -> Failure {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        cause = inner.source();
    }
    let message = texts.join(": ");
    let found = message
        .find("exec: \"")
        .or_else(|| message.find("chdir to cwd"));
    let message = found
        .map_or(message.as_str(), |at| &message[at..])
        .to_owned();
    let code = if message.contains("not found") || message.contains("no such file") {
        127
    } else {
        126
    };
    Failure::CannotRun { code, message }
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other {
        message: error.to_string(),
    }
}
