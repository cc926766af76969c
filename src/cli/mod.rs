//! The command line: parse, run, exit code. One file per subcommand.

mod completion;
mod image;
mod killall;
mod kubectl;
mod server;

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
    /// Import, pull, list and remove images of this node
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// End all pods of a stopped server and remove its groups, links, rules and mounts; data stays
    #[command(name = "killall")]
    KillAll(killall::KillAllCommand),
    /// Work with a cluster: the commands people know from kubectl
    Kubectl(Box<kubectl::KubectlCommand>),
    /// Print a completion script for a shell
    Completion(completion::CompletionCommand),
}

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Server(command) => command.run(),
        Command::Image(command) => command.run(),
        Command::KillAll(command) => command.run(),
        Command::Kubectl(command) => return command.run(),
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
