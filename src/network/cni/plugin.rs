//! One call of one plugin: a program, what it is told in its environment and on its input, and what it answers.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::error::{Error, PluginError};
use crate::trusted;

/// A plugin that waits for its agent or its API takes seconds; one that takes longer than this has hung.
const PATIENCE: Duration = Duration::from_secs(120);
/// More than any answer needs.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// The system's own folders: plugins call `ip`, `iptables` and the like.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    /// Whether what it added is still there and works; since 0.4.0.
    Check,
    Del,
    /// Whether it could add; since 1.1.0.
    Status,
    /// Takes away what it holds for attachments that are no more; since 1.1.0.
    Gc,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

/// Everything about a call but the plugin and what it is to do.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// Where plugins are, also those that a plugin calls itself.
    pub(crate) programs: &'a Path,
    /// `CNI_CONTAINERID` and the like.
    pub(crate) environment: &'a [(&'static str, String)],
}

impl Call<'_> {
    /// Runs a plugin with its part of the configuration; answers what it printed, which is nothing for most operations.
    pub(crate) async fn run(
        &self,
        operation: Operation,
        plugin: &str,
        input: &Value,
    ) -> Result<Value, Error> {
        let program = self.programs.join(plugin);
        if let Some(why) = trusted::fault_of_program(&program) {
            return Err(Error::Program {
                name: plugin.to_owned(),
                why,
            });
        }
        let mut child = self.start(operation, &program)?;
        let input = input.to_string().into_bytes();
        let done = env::timeout(PATIENCE, converse(&mut child, &input)).await;
        let (status, answer, complaint) = done
            .map_err(|_elapsed| Error::TimedOut {
                plugin: plugin.to_owned(),
                command: operation.name(),
                after: PATIENCE,
            })?
            .map_err(|source| Error::System {
                doing: "talk with a network plugin",
                source,
            })?;
        if !complaint.is_empty() {
            tracing::debug!(plugin, text = %String::from_utf8_lossy(&complaint), "a network plugin says");
        }
        if !status.success() {
            return Err(Error::Plugin {
                plugin: plugin.to_owned(),
                command: operation.name(),
                source: failure(status, &answer, &complaint),
            });
        }
        if answer.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|error| Error::Answer {
            plugin: plugin.to_owned(),
            why: error.to_string(),
        })
    }

    fn start(&self, operation: Operation, program: &Path) -> Result<Child, Error> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("CNI_COMMAND", operation.name())
            .env("CNI_PATH", self.programs)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // It has hung or nobody waits for it any more.
            .kill_on_drop(true);
        command.spawn().map_err(|source| Error::System {
            doing: "start a network plugin",
            source,
        })
    }
}

/// Writes the input and reads both outputs at once, so that neither side waits for the other.
async fn converse(
    child: &mut Child,
    input: &[u8],
) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A plugin that does not read its input says by its answer what it thinks of it.
            drop(stdin.write_all(input).await);
        }
    };
    let ((), answer, complaint) = tokio::join!(write, read(stdout), read(stderr));
    Ok((child.wait().await?, answer?, complaint?))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What comes after that is cut, and then is no JSON.
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut bytes)
            .await?;
    }
    Ok(bytes)
}

/// A plugin's own error; without one what it complained about.
fn failure(status: ExitStatus, answer: &[u8], complaint: &[u8]) -> PluginError {
    let said = serde_json::from_slice::<PluginError>(answer).ok();
    said.filter(|error| !error.msg.is_empty())
        .unwrap_or_else(|| PluginError {
            code: 0,
            msg: format!("it ended with {status}"),
            details: String::from_utf8_lossy(complaint).trim().to_owned(),
        })
}
