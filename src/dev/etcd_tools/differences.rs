//! The same calls of etcdctl against etcd and against a store of ours: what they print must be the same but for ids, sizes and times.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::normal::Names;
use crate::steps::{STEPS, Step};

/// A server is there within this time.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// No call takes longer.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);

/// Runs everything with the `etcd` and `etcdctl` of a folder; errors if anything differs.
pub(crate) fn run(programs: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut etcd = Server::start(folder.path(), Kind::Etcd(&programs.join("etcd")))?;
    let mut ours = Server::start(folder.path(), Kind::Ours)?;
    etcd.wait(programs)?;
    ours.wait(programs)?;
    let mut differences = 0;
    for step in STEPS {
        let (wanted, got) = (etcd.call(programs, step)?, ours.call(programs, step)?);
        if wanted != got {
            differences += 1;
            println!(
                "etcdctl {}\n--- etcd\n{wanted}\n--- ours\n{got}\n",
                step.words
            );
        }
    }
    println!("{} calls, {differences} differences", STEPS.len());
    if differences > 0 {
        bail!("{differences} calls are answered in another way than by etcd");
    }
    Ok(())
}

enum Kind<'a> {
    Etcd(&'a Path),
    Ours,
}

struct Server {
    child: Child,
    endpoint: String,
    /// A file that a call may write.
    file: PathBuf,
    names: Names,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Server {
    fn start(folder: &Path, kind: Kind<'_>) -> anyhow::Result<Self> {
        let (port, peer_port) = (free_port()?, free_port()?);
        let endpoint = format!("http://127.0.0.1:{port}");
        let (mut command, file) = match kind {
            Kind::Etcd(program) => {
                let peers = format!("http://127.0.0.1:{peer_port}");
                let mut command = Command::new(program);
                command
                    .arg("--data-dir")
                    .arg(folder.join("etcd"))
                    .args(["--unsafe-no-fsync", "--log-level", "error"])
                    .args(["--listen-client-urls", &endpoint])
                    .args(["--advertise-client-urls", &endpoint])
                    .args(["--listen-peer-urls", &peers])
                    .args(["--initial-advertise-peer-urls", &peers])
                    .args(["--initial-cluster", &format!("default={peers}")]);
                (command, folder.join("snapshot-etcd"))
            }
            Kind::Ours => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("serve").arg(folder.join("state.db"));
                command.arg(port.to_string());
                (command, folder.join("snapshot-ours"))
            }
        };
        // Ours ends with its input.
        let child = command.stdin(Stdio::piped()).spawn();
        let child = child.with_context(|| format!("start {}", command.get_program().display()))?;
        let names = Names::new(&endpoint, &format!("http://127.0.0.1:{peer_port}"), &file);
        Ok(Self {
            child,
            endpoint,
            file,
            names,
        })
    }

    fn command(&self, programs: &Path) -> Command {
        let mut command = Command::new(programs.join("etcdctl"));
        command
            .env("ETCDCTL_ENDPOINTS", &self.endpoint)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn wait(&self, programs: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            let output = self.command(programs).args(["endpoint", "health"]).output();
            if output.context("start etcdctl")?.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is not there after {START_TIME_MAX:?}", self.endpoint);
            }
        }
    }

    /// What a call prints and how it ends, without what may differ.
    fn call(&mut self, programs: &Path, step: &Step) -> anyhow::Result<String> {
        let mut command = self.command(programs);
        for word in step.words.split(' ') {
            let word = word.replace("$LEASE", self.names.lease());
            command.arg(word.replace("$FILE", &self.file.display().to_string()));
        }
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // Whoever does not read it is not interested.
            let _unread = input.write_all(step.input.as_bytes());
        }
        let text = match step.lines {
            None => finished(child)?,
            Some(lines) => first_lines(child, lines)?,
        };
        Ok(self.names.normal(&text))
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn finished(child: Child) -> anyhow::Result<String> {
    let id = child.id();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(CALL_TIME_MAX) else {
        bail!("a call (process {id}) has not ended after {CALL_TIME_MAX:?}");
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output?;
    let errors = String::from_utf8_lossy(&stderr);
    // etcdctl's own log tells of attempts and times.
    let errors: Vec<_> = errors
        .lines()
        .filter(|line| !line.starts_with('{'))
        .collect();
    Ok(format!(
        "{}{}\n{status}",
        String::from_utf8_lossy(&stdout),
        errors.join("\n")
    ))
}

/// Ends a call once it has printed so many lines.
fn first_lines(mut child: Child, lines: usize) -> anyhow::Result<String> {
    let stdout = child.stdout.take().context("the output is a pipe")?;
    let (sender, printed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + CALL_TIME_MAX;
    let mut text = Vec::new();
    while text.len() < lines {
        let left = deadline.saturating_duration_since(Instant::now());
        match printed.recv_timeout(left) {
            Ok(line) => text.push(line),
            Err(_) => break,
        }
    }
    child.kill()?;
    child.wait()?;
    if text.len() < lines {
        let mut errors = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut errors)?;
        }
        text.push(format!("(only so many lines) {errors}"));
    }
    Ok(text.join("\n"))
}
