//! The command line: parse, run, exit code. One file per subcommand.

mod agent;
mod airgap;
mod bucket;
mod certificate;
mod check;
mod command_line;
mod completion;
mod db;
mod exec;
mod export;
mod host_steps;
mod image;
mod killall;
mod kubeconfig;
mod kubectl;
mod logs;
mod migrate;
mod node_socket;
mod pods;
mod secrets_encrypt;
mod server;
mod service;
mod snapshot;
mod status;
mod stored;
mod token;
mod uninstall;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Kubernetes for the edge in one binary.
#[derive(Parser)]
#[command(name = "combo", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane, and a node unless told not to
    Server(Box<server::ServerCommand>),
    /// Run a node that joins a server
    Agent(Box<agent::AgentCommand>),
    /// Import, pull, list and remove images of this node
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// End all pods of a stopped server and remove its groups, links, rules and mounts; data stays
    #[command(name = "killall")]
    KillAll(killall::KillAllCommand),
    /// Look whether this machine can run Combo, and say what to do where it cannot
    Check(check::CheckCommand),
    /// Say what runs on this machine, also when no server answers
    Status(status::StatusCommand),
    /// Remove a service that install.sh installed, its pods and its data: the machine is as before
    Uninstall(uninstall::UninstallCommand),
    /// Make and read bundles for machines without a network
    #[command(subcommand, name = "airgap")]
    AirGap(airgap::AirGapCommand),
    /// The steps of install.sh that must be durable
    #[command(subcommand, hide = true)]
    Host(host_steps::HostCommand),
    /// Print the administrator's kubeconfig for an address of the server
    Kubeconfig(kubeconfig::KubeconfigCommand),
    /// Make, list, delete and change the tokens that machines join with
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List certificates and when they end, and replace authorities
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Take, list, restore and remove snapshots of the cluster
    #[command(subcommand, alias = "etcd-snapshot")]
    Snapshot(Box<snapshot::SnapshotCommand>),
    /// Show and change the keys that Secrets are encrypted with at rest
    #[command(subcommand)]
    SecretsEncrypt(secrets_encrypt::SecretsEncryptCommand),
    /// Look after a server's store
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Take over the objects of a k3s, or of any Kubernetes on etcd
    Migrate(migrate::MigrateCommand),
    /// Write all objects as k3s reads them, or to an etcd
    Export(export::ExportCommand),
    /// Work with a cluster: the commands people know from kubectl
    Kubectl(Box<kubectl::KubectlCommand>),
    /// Show the pods of this node, also when no server can be reached
    Pods(Box<pods::PodsOfNode>),
    /// Print the log of a container of this node, also when no server can be reached
    Logs(Box<logs::LogsOfNode>),
    /// Run a command in a container of this node, also when no server can be reached
    Exec(exec::ExecOfNode),
    /// Print a completion script for a shell
    Completion(completion::CompletionCommand),
}

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let cli = match command_line::parse(words(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            eprintln!("combo: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = match cli.command {
        Command::Server(command) => command.run(),
        Command::Agent(command) => command.run(),
        Command::Image(command) => command.run(),
        Command::KillAll(command) => command.run(),
        Command::Check(command) => return command.run(),
        Command::Status(command) => command.run(),
        Command::Uninstall(command) => command.run(),
        Command::AirGap(command) => command.run(),
        Command::Host(command) => command.run(),
        Command::Kubeconfig(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Certificate(command) => command.run(),
        Command::Snapshot(command) => command.run(),
        Command::SecretsEncrypt(command) => command.run(),
        Command::Db(command) => command.run(),
        Command::Migrate(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Kubectl(command) => return command.run(),
        Command::Pods(command) => return command.run(),
        Command::Logs(command) => return command.run(),
        Command::Exec(command) => return command.run(),
        Command::Completion(command) => command.run(&mut Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("combo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A link called kubectl is `combo kubectl`.
fn words(mut said: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let program = said.next().unwrap_or_else(|| "combo".into());
    let is_kubectl = Path::new(&program)
        .file_name()
        .is_some_and(|name| name == "kubectl");
    let command = is_kubectl.then(|| OsString::from("kubectl"));
    std::iter::once(program)
        .chain(command)
        .chain(said)
        .collect()
}
