//! `rollout`: follow, list, undo, restart and hold what workloads roll out.

mod history;
mod status;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::apply::DryRun;
use crate::error::{Error, Result};
use crate::objects::{Choice, Found, MERGE, STRATEGIC};
use crate::session::{FIELD_MANAGER, Session};

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

#[derive(Subcommand)]
pub(crate) enum RolloutCommand {
    /// Follow a rollout until it is done
    Status(status::StatusCommand),
    /// List the revisions
    History(history::HistoryCommand),
    /// Go back to an earlier revision
    Undo(history::UndoCommand),
    /// Make all pods anew
    Restart(Workloads),
    /// Hold a deployment
    Pause(Workloads),
    /// Go on with a deployment
    Resume(Workloads),
}

/// Workloads by name or selector.
#[derive(Args)]
pub(crate) struct Workloads {
    /// TYPE NAME..., or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    choice: Choice,
}

impl Workloads {
    async fn read(&self, errors: &mut Vec<Error>, session: &mut Session) -> Result<Vec<Found>> {
        self.choice.read(&self.arguments, errors, session).await
    }
}

impl RolloutCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        match self {
            Self::Status(command) => command.run(session).await,
            Self::History(command) => command.run(session).await,
            Self::Undo(command) => command.run(session).await,
            Self::Restart(workloads) => change(&workloads, Change::Restart, session).await,
            Self::Pause(workloads) => change(&workloads, Change::Pause, session).await,
            Self::Resume(workloads) => change(&workloads, Change::Resume, session).await,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Change {
    Restart,
    Pause,
    Resume,
}

async fn change(workloads: &Workloads, change: Change, session: &mut Session) -> Result<()> {
    let mut errors = Vec::new();
    for found in workloads.read(&mut errors, session).await? {
        let (content_type, patch, done) =
            match plan(&found, change, &session.clock.now().to_seconds_string()) {
                Ok(planned) => planned,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
        match found
            .patch(content_type, &patch, (DryRun::No, FIELD_MANAGER), session)
            .await
        {
            Ok(_) => session.say(format!("{} {done}", found.label()))?,
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)
}

/// The patch that makes a change, and what is said of it.
fn plan(found: &Found, change: Change, now: &str) -> Result<(&'static str, Value, &'static str)> {
    let kind = found.kind.kind.as_str();
    let resource = found.kind.resource.group_resource();
    let is_paused = found.object["spec"]["paused"] == true;
    match change {
        Change::Restart if matches!(kind, "Deployment" | "DaemonSet" | "StatefulSet") => {
            if is_paused {
                return Err(Error::usage(format!(
                    "{resource} {:?} can't restart paused deployment (run rollout resume first)",
                    found.name
                )));
            }
            let annotations = json!({RESTARTED_AT: now});
            let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
            Ok((STRATEGIC, patch, "restarted"))
        }
        Change::Pause | Change::Resume if kind == "Deployment" => {
            let pauses = change == Change::Pause;
            if is_paused == pauses {
                let state = if pauses {
                    "already paused"
                } else {
                    "not paused"
                };
                return Err(Error::usage(format!(
                    "{resource} {:?} is {state}",
                    found.name
                )));
            }
            let paused = if pauses { json!(true) } else { Value::Null };
            let done = if pauses { "paused" } else { "resumed" };
            Ok((MERGE, json!({"spec": {"paused": paused}}), done))
        }
        Change::Restart => Err(Error::usage(format!(
            "{resource} {:?} restarting is not supported",
            found.name
        ))),
        Change::Pause => Err(Error::usage(format!(
            "{resource} {:?} pausing is not supported",
            found.name
        ))),
        Change::Resume => Err(Error::usage(format!(
            "{resource} {:?} resuming is not supported",
            found.name
        ))),
    }
}
