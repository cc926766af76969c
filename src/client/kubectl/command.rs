//! The arguments of all commands, and the way from them to a session and a command.

use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Args, Command as ClapCommand, FromArgMatches, Subcommand};
use env::SystemClock;
use kube_client::{Client, HttpTransport, Kubeconfig};

use crate::error::{Error, Result};
use crate::session::Session;
use crate::{
    api_resources, apply, auth, config_view, create, delete, describe, exec, get, labels, logs,
    patch, rollout, scale, times, version, wait,
};

pub(crate) const USER_AGENT: &str = concat!("kubectl/combo-", env!("CARGO_PKG_VERSION"));

/// The arguments of `combo kubectl`.
pub struct Kubectl(Flags);

#[derive(Args)]
struct Flags {
    /// Namespace to act in; the context's own unless told
    #[arg(long, short = 'n', global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig; the current one unless told
    #[arg(long, global = true, default_value = "", value_name = "CONTEXT")]
    context: String,
    /// How long the server may take to answer a request, such as 30s; 0 for as long as it likes
    #[arg(long, global = true, value_name = "DURATION")]
    request_timeout: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show objects
    Get(get::GetCommand),
    /// Show objects in detail, with their events
    Describe(describe::DescribeCommand),
    /// Make objects as files say; always server-side apply, by the field manager `kubectl`
    Apply(apply::ApplyCommand),
    /// Create objects from files or arguments
    Create(create::CreateCommand),
    /// Delete objects
    Delete(delete::DeleteCommand),
    /// Print the log of a container
    Logs(logs::LogsCommand),
    /// Run a command in a container
    Exec(exec::ExecCommand),
    /// Set the number of replicas
    Scale(scale::ScaleCommand),
    /// Follow and change rollouts
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Wait until objects are as told
    Wait(wait::WaitCommand),
    /// Change labels
    Label(labels::LabelCommand),
    /// Change annotations
    Annotate(labels::AnnotateCommand),
    /// Change fields of an object
    Patch(patch::PatchCommand),
    /// List the kinds the server serves
    ApiResources(api_resources::ApiResourcesCommand),
    /// Show the versions of client and server
    Version(version::VersionCommand),
    /// Show the kubeconfig
    #[command(subcommand)]
    Config(config_view::ConfigCommand),
    /// Ask what one may do
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Refused: resource metrics are read with `get --raw /apis/metrics.k8s.io/...`
    Top(TopCommand),
}

#[derive(Args)]
struct TopCommand {
    #[arg(value_name = "ARGUMENT", num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<String>,
}

impl FromArgMatches for Kubectl {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Flags::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for Kubectl {
    fn augment_args(command: ClapCommand) -> ClapCommand {
        switches_take_values(Flags::augment_args(command))
    }

    fn augment_args_for_update(command: ClapCommand) -> ClapCommand {
        switches_take_values(Flags::augment_args_for_update(command))
    }
}

/// Every switch may be written `--switch=false`, as kubectl's can.
fn switches_take_values(command: ClapCommand) -> ClapCommand {
    command
        .mut_args(|argument| match argument.get_action() {
            ArgAction::SetTrue => argument
                .action(ArgAction::Set)
                .value_parser(clap::value_parser!(bool))
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true)
                .hide_possible_values(true)
                .value_name("BOOL"),
            _ => argument,
        })
        .mut_subcommands(switches_take_values)
}

/// Carries one command out and gives the exit code; a failure is told on standard error.
///
/// `kubeconfigs` are looked for in order, the first that exists is used.
pub async fn run(kubectl: Kubectl, kubeconfigs: &[PathBuf]) -> u8 {
    told(carry_out(kubectl.0, kubeconfigs).await)
}

/// The exit code; a failure is told on standard error.
pub(crate) fn told(done: Result<()>) -> u8 {
    match done {
        Ok(()) => 0,
        // Whoever read the output has seen enough, as in `get | head`.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                eprintln!("{text}");
            }
            error.exit_code()
        }
    }
}

async fn carry_out(flags: Flags, kubeconfigs: &[PathBuf]) -> Result<()> {
    let path = kubeconfigs
        .iter()
        .find(|path| path.exists())
        .or(kubeconfigs.last());
    let path = path.ok_or_else(|| Error::usage("no kubeconfig is named"))?;
    if let Command::Config(command) = flags.command {
        return command.run(path);
    }
    if let Command::Top(_) = flags.command {
        return Err(Error::usage(
            "`top` is not built in; the figures are at `get --raw /apis/metrics.k8s.io/v1beta1/pods`",
        ));
    }
    let config = Kubeconfig::read(path).map_err(Error::kubeconfig)?;
    let http = config
        .http_config(&flags.context, USER_AGENT)
        .map_err(Error::kubeconfig)?;
    let own = config
        .namespace(&flags.context)
        .map_err(Error::kubeconfig)?;
    let namespace = flags
        .namespace
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or(own);
    let mut http = HttpTransport::new(&http)?;
    if let Some(limit) = &flags.request_timeout {
        let limit = times::parse_duration(limit)?;
        http = http.with_answer_limit(Some(limit).filter(|limit| !limit.is_zero()));
    }
    let client = Client::new(std::sync::Arc::new(http.clone()));
    let mut session = Session::new(&client, namespace, SystemClock::shared());
    session.http = Some(http);
    dispatch(flags.command, flags.namespace.is_some(), &mut session).await
}

async fn dispatch(command: Command, names_namespace: bool, session: &mut Session) -> Result<()> {
    match command {
        Command::Get(command) => Box::pin(command.run(session)).await,
        Command::Describe(command) => Box::pin(command.run(session)).await,
        Command::Apply(command) => Box::pin(command.run(names_namespace, session)).await,
        Command::Create(command) => Box::pin(command.run(names_namespace, session)).await,
        Command::Delete(command) => Box::pin(command.run(session)).await,
        Command::Logs(command) => Box::pin(command.run(session)).await,
        Command::Exec(command) => Box::pin(command.run(session)).await,
        Command::Scale(command) => Box::pin(command.run(session)).await,
        Command::Rollout(command) => Box::pin(command.run(session)).await,
        Command::Wait(command) => Box::pin(command.run(session)).await,
        Command::Label(command) => Box::pin(command.run(session)).await,
        Command::Annotate(command) => Box::pin(command.run(session)).await,
        Command::Patch(command) => Box::pin(command.run(session)).await,
        Command::ApiResources(command) => command.run(session).await,
        Command::Version(command) => command.run(session).await,
        Command::Auth(command) => command.run(session).await,
        Command::Config(_) | Command::Top(_) => Err(Error::usage("this command asks no server")),
    }
}

/// The command alone, in a session that a test made.
#[cfg(test)]
pub(crate) async fn dispatch_for_tests(kubectl: Kubectl, session: &mut Session) -> Result<()> {
    dispatch(kubectl.0.command, kubectl.0.namespace.is_some(), session).await
}
