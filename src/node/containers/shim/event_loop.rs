//! The loop of a shim: what may happen, in one `poll`, and what is done about it.

use super::container::{Container, Phase, SINK_STUCK_MAX, Sink};
use super::protocol::{Answer, ExitRecord, Incoming, Received, Request, send_now};
use super::sandbox::SandboxNamespaces;
use super::worker::Reply;
use crate::layout::SandboxDir;
use cri::ContainerId;
use env::{Clock, SystemClock, Timestamp};
use linux::cgroup::Cgroups;
use linux::namespaces::Namespace;
use linux::process::{Exit, reap};
use linux::{AtomicFile, Doing};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

/// Connections at a time.
const CLIENTS_MAX: usize = 256;
/// Exits of processes that nobody has asked for yet: a process may end before its worker says who it is.
const EARLY_EXITS_MAX: usize = 64;

/// The shim.
pub(super) struct Shim {
    pub(super) dir: SandboxDir,
    pub(super) cgroups: Cgroups,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) pid_holder: Option<i32>,
    signals: SignalFd,
    listener: UnixListener,
    pub(super) clients: BTreeMap<u64, Client>,
    next_client: u64,
    pub(super) containers: BTreeMap<String, Container>,
    /// Running commands by pid.
    pub(super) execs: BTreeMap<i32, Exec>,
    pub(super) jobs: Vec<Job>,
    early: VecDeque<Exit>,
    pub(super) is_ending: bool,
}

/// A connection.
pub(super) struct Client {
    pub(super) socket: UnixStream,
    incoming: Incoming,
    pub(super) is_watcher: bool,
    /// The container whose streams it copies.
    pub(super) attached_to: Option<String>,
}

/// A running command and who asked for it.
pub(super) struct Exec {
    pub(super) client: u64,
}

/// A worker at work.
pub(super) struct Job {
    worker: UnixStream,
    incoming: Incoming,
    pub(super) client: u64,
    pub(super) kind: JobKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JobKind {
    Start { container: String },
    Exec { container: String },
}

/// What a descriptor in the poll set is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Signals,
    Listener,
    Client(u64),
    Job(usize),
    Output(String, usize),
    Sinks(String),
}

impl Shim {
    pub(super) fn new(
        dir: SandboxDir,
        cgroups: Cgroups,
        namespaces: SandboxNamespaces,
        listener: UnixListener,
    ) -> linux::Result<Shim> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals =
            SignalFd::with_flags(&children, flags).doing(|| "make a signalfd".to_owned())?;
        listener
            .set_nonblocking(true)
            .doing(|| "make the socket non-blocking".to_owned())?;
        Ok(Shim {
            dir,
            cgroups,
            clock: SystemClock::shared(),
            namespaces: namespaces.held,
            pid_holder: namespaces.pid_holder,
            signals,
            listener,
            clients: BTreeMap::new(),
            next_client: 0,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            jobs: Vec::new(),
            early: VecDeque::new(),
            is_ending: false,
        })
    }

    /// Runs until the runtime says shutdown; returns the exit code.
    pub(super) fn run(&mut self) -> i32 {
        while !self.is_ending {
            for token in self.wait() {
                self.handle(&token);
            }
            self.let_stuck_sinks_go();
        }
        drop(std::fs::remove_file(self.dir.socket()));
        0
    }

    /// Blocks until something happened. With an attached client that is behind it wakes once to let it go.
    fn wait(&self) -> Vec<Token> {
        let interests = self.interests();
        let mut polled: Vec<PollFd<'_>> = interests
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let has_stuck = self
            .containers
            .values()
            .flat_map(|container| &container.sinks)
            .any(Sink::is_stuck);
        let limit = Timespec {
            tv_sec: i64::try_from(SINK_STUCK_MAX.as_secs()).expect("half a minute"),
            tv_nsec: 0,
        };
        // An interrupted wait is a wait that found nothing.
        if rustix::event::poll(&mut polled, has_stuck.then_some(&limit)).is_err() {
            return Vec::new();
        }
        let happened = interests
            .iter()
            .zip(&polled)
            .filter(|(_, polled)| !polled.revents().is_empty());
        happened.map(|((token, ..), _)| token.clone()).collect()
    }

    fn interests(&self) -> Vec<(Token, BorrowedFd<'_>, PollFlags)> {
        let mut all = vec![(Token::Signals, self.signals.as_fd(), PollFlags::IN)];
        if self.clients.len() < CLIENTS_MAX {
            all.push((Token::Listener, self.listener.as_fd(), PollFlags::IN));
        }
        for (id, client) in &self.clients {
            all.push((Token::Client(*id), client.socket.as_fd(), PollFlags::IN));
        }
        for (index, job) in self.jobs.iter().enumerate() {
            all.push((Token::Job(index), job.worker.as_fd(), PollFlags::IN));
        }
        for (id, container) in &self.containers {
            // Higher indexes first: a stream that ends does not move those that are still to be handled.
            for (index, output) in container.outputs.iter().enumerate().rev() {
                if container.wants(output) {
                    all.push((
                        Token::Output(id.clone(), index),
                        output.fd.as_fd(),
                        PollFlags::IN,
                    ));
                }
            }
            for sink in container.sinks.iter().filter(|sink| sink.is_stuck()) {
                all.push((Token::Sinks(id.clone()), sink.fd.as_fd(), PollFlags::OUT));
            }
        }
        // Jobs too are removed while handled: from the highest index down.
        all.sort_by_key(|(token, ..)| match token {
            Token::Job(index) => std::cmp::Reverse(Some(*index)),
            _ => std::cmp::Reverse(None),
        });
        all
    }

    fn handle(&mut self, token: &Token) {
        match token {
            Token::Signals => self.reap_children(),
            Token::Listener => self.accept(),
            Token::Client(id) => self.hear_client(*id),
            Token::Job(index) => self.hear_worker(*index),
            Token::Output(id, index) => {
                let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
                if let Some(container) = self.containers.get_mut(id) {
                    container.pump(*index, now, monotonic);
                }
            }
            Token::Sinks(id) => {
                let monotonic = self.clock.monotonic();
                if let Some(container) = self.containers.get_mut(id) {
                    container.sinks.retain_mut(|sink| sink.flush(monotonic));
                    if matches!(container.phase, Phase::Exited { .. }) {
                        container.sinks.retain(Sink::is_stuck);
                    }
                }
            }
        }
    }

    fn let_stuck_sinks_go(&mut self) {
        let monotonic = self.clock.monotonic();
        for container in self.containers.values_mut() {
            container
                .sinks
                .retain_mut(|sink| !sink.is_stuck() || sink.flush(monotonic));
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let own = rustix::process::getuid().as_raw();
            let is_own = linux::unix_socket::peer_uid(&socket).is_ok_and(|uid| uid == own);
            if !is_own || socket.set_nonblocking(true).is_err() {
                continue;
            }
            self.next_client += 1;
            let client = Client {
                socket,
                incoming: Incoming::default(),
                is_watcher: false,
                attached_to: None,
            };
            self.clients.insert(self.next_client, client);
        }
    }

    fn hear_client(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match client.incoming.read(client.socket.as_fd()) {
            Ok(Received::Something) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Ok(Received::Closed) | Err(_) => return self.remove_client(id),
        }
        while let Some(client) = self.clients.get_mut(&id) {
            match client.incoming.next::<Request>() {
                Ok(Some(request)) => {
                    let descriptors = std::mem::take(&mut client.incoming.descriptors);
                    self.serve(id, request, descriptors);
                }
                Ok(None) => return,
                Err(_) => return self.remove_client(id),
            }
        }
    }

    /// Closing a connection ends what it asked for: its command is killed, its copies of output stop.
    pub(super) fn remove_client(&mut self, id: u64) {
        self.clients.remove(&id);
        for container in self.containers.values_mut() {
            container.sinks.retain(|sink| sink.client != id);
        }
        let orphans: Vec<i32> = self
            .execs
            .iter()
            .filter(|(_, exec)| exec.client == id)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in orphans {
            signal_child(pid, libc::SIGKILL);
        }
    }

    /// Sends or lets the client go: one that does not read its answers is not worth waiting for.
    pub(super) fn send(&mut self, id: u64, answer: &Answer, descriptors: &[BorrowedFd<'_>]) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        if send_now(client.socket.as_fd(), answer, descriptors).is_err() {
            self.remove_client(id);
        }
    }

    pub(super) fn add_job(&mut self, client: u64, kind: JobKind, worker: UnixStream) {
        self.jobs.push(Job {
            worker,
            incoming: Incoming::default(),
            client,
            kind,
        });
    }

    fn hear_worker(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        let received = job.incoming.read(job.worker.as_fd());
        let reply = match (received, job.incoming.next::<Reply>()) {
            (_, Ok(Some(reply))) => reply,
            (Ok(Received::Something), Ok(None)) => return,
            _ => Reply::died(),
        };
        let mut job = self.jobs.remove(index);
        let terminal = job.incoming.descriptors.pop();
        self.finish_job(job.client, job.kind, reply, terminal);
    }

    fn reap_children(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Some(exit) = reap() {
            if !self.settle(exit) {
                self.early.push_back(exit);
                if self.early.len() > EARLY_EXITS_MAX {
                    self.early.pop_front();
                }
            }
        }
    }

    /// The exit of a process that was reaped before it was known.
    pub(super) fn take_early_exit(&mut self, pid: i32) -> Option<Exit> {
        let at = self.early.iter().position(|exit| exit.pid == pid)?;
        self.early.remove(at)
    }

    /// True when somebody waited for this process.
    pub(super) fn settle(&mut self, exit: Exit) -> bool {
        if let Some(exec) = self.execs.remove(&exit.pid) {
            self.send(exec.client, &Answer::Ended { code: exit.code }, &[]);
            return true;
        }
        let running = |container: &Container| matches!(container.phase, Phase::Running { pid, .. } if pid == exit.pid);
        let id = self
            .containers
            .iter()
            .find(|(_, container)| running(container))
            .map(|(id, _)| id.clone());
        match id {
            Some(id) => {
                self.end_container(&id, exit.code);
                true
            }
            None => false,
        }
    }

    /// Remembers how a container ended, on disk first, and tells.
    fn end_container(&mut self, id: &str, code: i32) {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Phase::Running { pid, started_at } = container.phase else {
            return;
        };
        container.drain(now, monotonic);
        let group = self.cgroups.group(&container.cgroup_path);
        let exit = ExitRecord {
            code,
            oom_killed: code == 128 + libc::SIGKILL && group.oom_kills() > 0,
            started_at: Some(started_at),
            finished_at: nanoseconds(now),
            start_error: None,
            unknown: false,
        };
        container.phase = Phase::Exited {
            pid,
            exit: exit.clone(),
        };
        if container.kill_leftovers {
            // The worker's own end is reaped like any other.
            drop(linux::process::fork_child(|| {
                i32::from(group.kill_all().is_err())
            }));
        }
        let path = self.dir.container(&ContainerId(id.to_owned())).exit();
        let bytes = serde_json::to_vec(&exit).expect("plain data becomes JSON");
        // If it cannot be written the runtime still hears of it now, or asks while the shim lives.
        drop(AtomicFile::private(path).write(&bytes));
        self.tell_exit(id, exit);
    }

    fn tell_exit(&mut self, id: &str, exit: ExitRecord) {
        let attached = |client: &Client| client.attached_to.as_deref() == Some(id);
        let attached: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| attached(client))
            .map(|(id, _)| *id)
            .collect();
        for client in attached {
            self.send(client, &Answer::Ended { code: exit.code }, &[]);
        }
        self.tell_watchers(&Answer::Exited {
            container: id.to_owned(),
            exit,
        });
    }

    pub(super) fn tell_watchers(&mut self, event: &Answer) {
        let watchers: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_watcher)
            .map(|(id, _)| *id)
            .collect();
        for client in watchers {
            self.send(client, event, &[]);
        }
    }
}

/// To a child that is not reaped yet: its pid is nobody else's.
pub(super) fn signal_child(pid: i32, number: i32) {
    if let Some((pid, signal)) =
        rustix::process::Pid::from_raw(pid).zip(rustix::process::Signal::from_named_raw(number))
    {
        // A child that has ended meanwhile is a zombie, and takes any signal.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub(super) fn nanoseconds(moment: Timestamp) -> i64 {
    i64::try_from(moment.unix_nanoseconds()).unwrap_or(i64::MAX)
}
