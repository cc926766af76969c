//! The calls of the runtime, one method each, and what follows when a worker has done its part.

use super::container::{Container, Output, Phase, Sink};
use super::event_loop::{Exec, JobKind, Shim, nanoseconds, signal_child};
use super::logs::Log;
use super::protocol::{Answer, ContainerIo, ContainerView, Failure, Request, Stream, borrow};
use super::worker::{self, ProcessIo, Reply};
use cri::ReopenLog;
use linux::namespaces::NamespaceKind;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

impl Shim {
    pub(super) fn serve(&mut self, client: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let result = match request {
            Request::Namespaces => return self.answer_namespaces(client),
            Request::Start {
                container,
                io,
                cgroup_path,
                kill_leftovers,
            } => self.start(client, container, io, cgroup_path, kill_leftovers),
            Request::Exec {
                container,
                args,
                terminal,
            } => self.exec(client, container, args, terminal, descriptors),
            Request::Attach {
                container,
                stdin,
                streams,
            } => self.attach(client, &container, stdin, &streams, descriptors),
            Request::Signal { container, number } => {
                self.signal(&container, number).map(|()| Some(Answer::Done))
            }
            Request::ReopenLog { container, how } => self
                .reopen_log(&container, how)
                .map(|()| Some(Answer::Done)),
            Request::Forget { container } => {
                self.forget(&container);
                Ok(Some(Answer::Done))
            }
            Request::Watch => Ok(Some(self.watch(client))),
            Request::Shutdown => {
                self.shut_down();
                Ok(Some(Answer::Done))
            }
        };
        match result {
            Ok(Some(answer)) => self.send(client, &answer, &[]),
            Ok(None) => {}
            Err(failure) => self.send(client, &Answer::Failed { failure }, &[]),
        }
    }

    fn answer_namespaces(&mut self, client: u64) {
        let kinds = self
            .namespaces
            .iter()
            .map(|one| one.kind.file_name().to_owned())
            .collect();
        let copies: Result<Vec<OwnedFd>, io::Error> = self
            .namespaces
            .iter()
            .map(|one| one.as_fd().try_clone_to_owned())
            .collect();
        match copies {
            Ok(copies) => self.send(client, &Answer::Namespaces { kinds }, &borrow(&copies)),
            Err(error) => self.send(
                client,
                &Answer::Failed {
                    failure: other(error),
                },
                &[],
            ),
        }
    }

    fn start(
        &mut self,
        client: u64,
        id: String,
        io: ContainerIo,
        cgroup_path: String,
        kill_leftovers: bool,
    ) -> Result<Option<Answer>, Failure> {
        if self.containers.contains_key(&id) {
            return Err(other("the container was started before"));
        }
        let log = Log::open(&io.log_path, io.log_bytes_max, io.log_files_max).map_err(|error| {
            other(format!(
                "failed to create container log {}: {error}",
                io.log_path.display()
            ))
        })?;
        let streams = if io.terminal {
            Streams::terminal()
        } else {
            Streams::pipes(io.stdin)?
        };
        let worker = worker::start(&self.dir, &id, streams.inside).map_err(other)?;
        let container = Container {
            phase: Phase::Starting,
            io,
            cgroup_path,
            kill_leftovers,
            log,
            outputs: streams.outputs,
            stdin: streams.stdin,
            sinks: Vec::new(),
        };
        self.containers.insert(id.clone(), container);
        self.add_job(client, JobKind::Start { container: id }, worker);
        Ok(None)
    }

    fn exec(
        &mut self,
        client: u64,
        container: String,
        args: Vec<String>,
        terminal: bool,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Option<Answer>, Failure> {
        self.running_pid(&container)?;
        let io = match (terminal, <[OwnedFd; 3]>::try_from(descriptors)) {
            (true, _) => ProcessIo::Terminal,
            (false, Ok([stdin, stdout, stderr])) => ProcessIo::Pipes {
                stdin,
                stdout,
                stderr,
            },
            (false, Err(_)) => return Err(other("an exec needs three descriptors")),
        };
        let user = self
            .namespaces
            .iter()
            .find(|one| one.kind == NamespaceKind::User);
        let user = user.map(|one| one.as_fd().as_raw_fd());
        let worker = worker::exec(&self.dir, &container, args, io, user).map_err(other)?;
        self.add_job(client, JobKind::Exec { container }, worker);
        Ok(None)
    }

    fn attach(
        &mut self,
        client: u64,
        id: &str,
        wants_stdin: bool,
        streams: &[Stream],
        descriptors: Vec<OwnedFd>,
    ) -> Result<Option<Answer>, Failure> {
        self.running_pid(id)?;
        let container = self
            .containers
            .get_mut(id)
            .ok_or(Failure::UnknownContainer)?;
        for (stream, fd) in streams.iter().zip(descriptors) {
            container
                .sinks
                .push(Sink::new(client, *stream, fd).map_err(other)?);
        }
        let stdin = if wants_stdin {
            container.stdin_for_client()?
        } else {
            None
        };
        let answer = Answer::Attached {
            has_stdin: stdin.is_some(),
            has_terminal: container.io.terminal,
        };
        let mut sent = Vec::new();
        sent.extend(stdin);
        // A terminal is resized through its descriptor, also by a client that writes nothing.
        if container.io.terminal && sent.is_empty() {
            sent.extend(container.copy_of_terminal()?);
        }
        if let Some(attached) = self.clients.get_mut(&client) {
            attached.attached_to = Some(id.to_owned());
        }
        self.send(client, &answer, &borrow(&sent));
        Ok(None)
    }

    fn signal(&mut self, id: &str, number: i32) -> Result<(), Failure> {
        let pid = self.running_pid(id)?;
        signal_child(pid, number);
        Ok(())
    }

    fn reopen_log(&mut self, id: &str, how: ReopenLog) -> Result<(), Failure> {
        let now = self.clock.now();
        let container = self
            .containers
            .get_mut(id)
            .ok_or(Failure::UnknownContainer)?;
        match how {
            ReopenLog::Reopen => container.log.reopen().map_err(other),
            ReopenLog::Rotate => container.log.rotate(now).map_err(other),
        }
    }

    fn forget(&mut self, id: &str) {
        let ended = |container: &Container| matches!(container.phase, Phase::Exited { .. });
        if self.containers.get(id).is_some_and(ended) {
            self.containers.remove(id);
        }
    }

    fn watch(&mut self, client: u64) -> Answer {
        if let Some(client) = self.clients.get_mut(&client) {
            client.is_watcher = true;
        }
        let view = |container: &Container| match &container.phase {
            Phase::Starting => None,
            Phase::Running { pid, started_at } => Some(ContainerView {
                pid: *pid,
                started_at: *started_at,
                exit: None,
            }),
            Phase::Exited { pid, exit } => Some(ContainerView {
                pid: *pid,
                started_at: exit.started_at.unwrap_or(exit.finished_at),
                exit: Some(exit.clone()),
            }),
        };
        let containers = self
            .containers
            .iter()
            .filter_map(|(id, container)| Some((id.clone(), view(container)?)));
        Answer::Containers {
            containers: containers.collect(),
        }
    }

    fn shut_down(&mut self) {
        for container in self.containers.values() {
            if let Phase::Running { pid, .. } = container.phase {
                signal_child(pid, libc::SIGKILL);
            }
        }
        if let Some(pid) = self.pid_holder {
            signal_child(pid, libc::SIGKILL);
        }
        self.is_ending = true;
    }

    fn running_pid(&self, id: &str) -> Result<i32, Failure> {
        match self.containers.get(id).map(|container| &container.phase) {
            None => Err(Failure::UnknownContainer),
            Some(Phase::Running { pid, .. }) => Ok(*pid),
            Some(_) => Err(Failure::NotRunning),
        }
    }

    /// A worker has said how it went.
    pub(super) fn finish_job(
        &mut self,
        client: u64,
        kind: JobKind,
        reply: Reply,
        terminal: Option<OwnedFd>,
    ) {
        match kind {
            JobKind::Start { container } => self.finish_start(client, &container, reply, terminal),
            JobKind::Exec { container } => {
                let another = JobKind::Exec {
                    container: container.clone(),
                };
                if !self.jobs.iter().any(|job| job.kind == another) {
                    worker::remove_exec_sockets(&self.dir, &container);
                }
                self.finish_exec(client, reply, terminal);
            }
        }
    }

    fn finish_start(&mut self, client: u64, id: &str, reply: Reply, terminal: Option<OwnedFd>) {
        let pid = match reply {
            Reply::Running { pid } => pid,
            Reply::Failed { failure } => {
                self.containers.remove(id);
                return self.send(client, &Answer::Failed { failure }, &[]);
            }
        };
        let started_at = nanoseconds(self.clock.now());
        if let Some(container) = self.containers.get_mut(id) {
            container.phase = Phase::Running { pid, started_at };
            if let Some(terminal) = terminal {
                container.adopt_terminal(terminal);
            }
        }
        self.send(client, &Answer::Started { pid }, &[]);
        self.tell_watchers(&Answer::Running {
            container: id.to_owned(),
            pid,
            started_at,
        });
        if let Some(exit) = self.take_early_exit(pid) {
            self.settle(exit);
        }
    }

    fn finish_exec(&mut self, client: u64, reply: Reply, terminal: Option<OwnedFd>) {
        let pid = match reply {
            Reply::Running { pid } => pid,
            Reply::Failed { failure } => {
                return self.send(client, &Answer::Failed { failure }, &[]);
            }
        };
        self.execs.insert(pid, Exec { client });
        let descriptors: Vec<OwnedFd> = terminal.into_iter().collect();
        self.send(client, &Answer::Executing, &borrow(&descriptors));
        if let Some(exit) = self.take_early_exit(pid) {
            self.settle(exit);
        } else if !self.clients.contains_key(&client) {
            signal_child(pid, libc::SIGKILL);
        }
    }
}

impl Container {
    /// The container's standard input for an attached client. With `stdin_once` the shim keeps no copy, so that
    /// the container sees the end of file when the client leaves.
    fn stdin_for_client(&mut self) -> Result<Option<OwnedFd>, Failure> {
        if !self.io.stdin {
            return Ok(None);
        }
        if self.io.stdin_once && !self.io.terminal {
            return Ok(self.stdin.take());
        }
        self.stdin
            .as_ref()
            .map(OwnedFd::try_clone)
            .transpose()
            .map_err(other)
    }

    fn copy_of_terminal(&self) -> Result<Option<OwnedFd>, Failure> {
        let output = self.outputs.first();
        output
            .map(|output| output.fd.try_clone())
            .transpose()
            .map_err(other)
    }

    /// Reads from the terminal as standard output, and writes to it as standard input.
    fn adopt_terminal(&mut self, terminal: OwnedFd) {
        self.stdin = terminal.try_clone().ok();
        self.outputs.extend(Output::new(Stream::Stdout, terminal));
    }
}

/// Streams of a container to be: the ends inside, and ours.
struct Streams {
    inside: ProcessIo,
    outputs: Vec<Output>,
    stdin: Option<OwnedFd>,
}

impl Streams {
    /// The terminal comes with the worker's reply.
    fn terminal() -> Streams {
        Streams {
            inside: ProcessIo::Terminal,
            outputs: Vec::new(),
            stdin: None,
        }
    }

    fn pipes(has_stdin: bool) -> Result<Streams, Failure> {
        let (from_stdout, stdout) = io::pipe().map_err(other)?;
        let (from_stderr, stderr) = io::pipe().map_err(other)?;
        let (inside, ours) = if has_stdin {
            let (inside, ours) = io::pipe().map_err(other)?;
            (OwnedFd::from(inside), Some(OwnedFd::from(ours)))
        } else {
            (
                OwnedFd::from(std::fs::File::open("/dev/null").map_err(other)?),
                None,
            )
        };
        Ok(Streams {
            inside: ProcessIo::Pipes {
                stdin: inside,
                stdout: stdout.into(),
                stderr: stderr.into(),
            },
            outputs: vec![
                Output::new(Stream::Stdout, from_stdout.into()).map_err(other)?,
                Output::new(Stream::Stderr, from_stderr.into()).map_err(other)?,
            ],
            stdin: ours,
        })
    }
}

impl Reply {
    /// What a worker that said nothing is taken to have said.
    pub(super) fn died() -> Reply {
        Reply::Failed {
            failure: other("the worker died"),
        }
    }
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other {
        message: error.to_string(),
    }
}
