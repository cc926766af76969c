//! `pods`, `logs` and `exec` at the socket of the node that they are typed on: kubectl's own commands, without a server.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use env::SystemClock;
use kube_client::{Client, HttpTransport};

use crate::command::{USER_AGENT, told};
use crate::error::{Error, Result};
use crate::exec::ExecCommand;
use crate::get::PodsCommand;
use crate::logs::LogsCommand;
use crate::session::Session;

/// The arguments of `combo pods`.
#[derive(Args)]
pub struct NodePods {
    /// The pods of this namespace only
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    command: PodsCommand,
}

/// The arguments of `combo logs`.
#[derive(Args)]
pub struct NodeLogs {
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    command: LogsCommand,
}

/// The arguments of `combo exec`.
#[derive(Args)]
pub struct NodeExec {
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    command: ExecCommand,
}

#[derive(Args)]
struct Namespace {
    /// The pod's namespace
    #[arg(
        long = "namespace",
        short = 'n',
        default_value = "default",
        value_name = "NAMESPACE"
    )]
    name: String,
}

/// A command about the pods of one node.
pub enum OnNode {
    Pods(NodePods),
    Logs(NodeLogs),
    Exec(NodeExec),
}

impl OnNode {
    /// Carries it out at the node's socket and gives the exit code; a failure is told on standard error.
    pub async fn run(self, socket: &Path) -> u8 {
        told(self.carry_out(socket).await)
    }

    async fn carry_out(self, socket: &Path) -> Result<()> {
        is_answering(socket)?;
        let http = HttpTransport::at_socket(socket, USER_AGENT)?;
        let client = Client::new(Arc::new(http.clone()));
        let mut session = Session::new(&client, "", SystemClock::shared());
        session.http = Some(http);
        match self {
            Self::Pods(pods) => {
                session.namespace = pods.namespace.unwrap_or_default();
                pods.command.run(&mut session).await
            }
            Self::Logs(logs) => {
                session.namespace = logs.namespace.name;
                logs.command.run(&mut session).await
            }
            Self::Exec(exec) => {
                session.namespace = exec.namespace.name;
                exec.command.run(&mut session).await
            }
        }
    }
}

/// Fails in words that help: the usual reasons are that no node runs here, or that it is not root who asks.
fn is_answering(socket: &Path) -> Result<()> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let Err(error) = linux::unix_socket::connect(socket) else {
        return Ok(());
    };
    let path = socket.display();
    Err(Error::usage(match error.kind() {
        NotFound | ConnectionRefused => format!(
            "no node answers at {path}: it does not run, has no agent, or has another data folder (--data-dir); \
             `combo status` says what runs here"
        ),
        PermissionDenied => format!("{path} is for root only: run this as root"),
        _ => error.to_string(),
    }))
}
