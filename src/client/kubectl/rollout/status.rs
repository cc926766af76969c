//! `rollout status`: says how far a rollout is each time that changes, until it is done.

use std::time::Duration;

use apimachinery::Object;
use clap::Args;
use serde_json::Value;

use super::Workloads;
use crate::error::{Error, Result};
use crate::objects::Found;
use crate::session::{PLAIN, Session};
use crate::times;
use crate::wait::until;

/// What `--timeout=0s`, no end, stands for.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Args)]
pub(crate) struct StatusCommand {
    #[command(flatten)]
    workloads: Workloads,
    /// Follow until the rollout is done
    #[arg(long, short = 'w', default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    watch: bool,
    /// The longest time to follow; 0 has no end
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    timeout: String,
    /// Follow this revision only; 0 is the latest
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    revision: i64,
}

/// How far a rollout is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) message: String,
    pub(super) is_done: bool,
}

impl StatusCommand {
    pub(super) async fn run(self, session: &mut Session) -> Result<()> {
        let limit = times::parse_duration(&self.timeout)?;
        let limit = if limit.is_zero() { YEAR } else { limit };
        let mut errors = Vec::new();
        for found in self.workloads.read(&mut errors, session).await? {
            if let Err(error) = self.follow(&found, limit, session).await {
                errors.push(error);
            }
        }
        Error::all(errors)
    }

    async fn follow(&self, found: &Found, limit: Duration, session: &mut Session) -> Result<()> {
        if !self.watch {
            let object = session.get(found.path(""), PLAIN).await?;
            let progress = self.progress(found, &object)?;
            return session.say(progress.message);
        }
        let api = session
            .client
            .dynamic(found.kind.resource.clone(), &found.namespace);
        let mut said = String::new();
        let followed = until(&api, &found.name, limit, |object: Option<&Object>| {
            let object = object.ok_or_else(|| Error::usage("object has been deleted"))?;
            let progress = self.progress(found, &object.clone().into_value())?;
            if progress.message != said {
                session.say(&progress.message)?;
                said.clone_from(&progress.message);
            }
            Ok(progress.is_done)
        });
        followed.await.map(|_object| ())
    }

    fn progress(&self, found: &Found, object: &Value) -> Result<Progress> {
        let revision =
            object["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str();
        if self.revision > 0
            && revision.is_some_and(|revision| revision != self.revision.to_string())
        {
            return Err(Error::usage(format!(
                "desired revision ({}) is different from the running revision ({})",
                self.revision,
                revision.unwrap_or_default()
            )));
        }
        match found.kind.kind.as_str() {
            "Deployment" => deployment(object),
            "DaemonSet" => daemon_set(object),
            "StatefulSet" => stateful_set(object),
            _ => Err(Error::usage(format!(
                "no status viewer has been implemented for {}",
                found.kind.resource.group_resource()
            ))),
        }
    }
}

fn going(message: String) -> Result<Progress> {
    Ok(Progress {
        message,
        is_done: false,
    })
}

fn done(message: String) -> Result<Progress> {
    Ok(Progress {
        message,
        is_done: true,
    })
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Whether the controller has seen the spec as it is.
fn is_observed(object: &Value) -> bool {
    number(&object["metadata"]["generation"]) <= number(&object["status"]["observedGeneration"])
}

fn deployment(object: &Value) -> Result<Progress> {
    let (name, status) = (
        object["metadata"]["name"].as_str().unwrap_or_default(),
        &object["status"],
    );
    if !is_observed(object) {
        return going("Waiting for deployment spec update to be observed...".to_owned());
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut progressing = conditions.filter(|condition| condition["type"] == "Progressing");
    if progressing
        .next()
        .is_some_and(|condition| condition["reason"] == "ProgressDeadlineExceeded")
    {
        return Err(Error::usage(format!(
            "deployment {name:?} exceeded its progress deadline"
        )));
    }
    let wanted = number(&object["spec"]["replicas"]);
    let (replicas, updated, available) = (
        number(&status["replicas"]),
        number(&status["updatedReplicas"]),
        number(&status["availableReplicas"]),
    );
    let waiting = format!("Waiting for deployment {name:?} rollout to finish:");
    if updated < wanted {
        return going(format!(
            "{waiting} {updated} out of {wanted} new replicas have been updated..."
        ));
    }
    if replicas > updated {
        let old = replicas - updated;
        return going(format!(
            "{waiting} {old} old replicas are pending termination..."
        ));
    }
    if available < updated {
        return going(format!(
            "{waiting} {available} of {updated} updated replicas are available..."
        ));
    }
    done(format!("deployment {name:?} successfully rolled out"))
}

fn rolling_only(object: &Value) -> Result<()> {
    if object["spec"]["updateStrategy"]["type"] == "RollingUpdate" {
        return Ok(());
    }
    Err(Error::usage(
        "rollout status is only available for RollingUpdate strategy type",
    ))
}

fn daemon_set(object: &Value) -> Result<Progress> {
    rolling_only(object)?;
    let (name, status) = (
        object["metadata"]["name"].as_str().unwrap_or_default(),
        &object["status"],
    );
    if !is_observed(object) {
        return going("Waiting for daemon set spec update to be observed...".to_owned());
    }
    let desired = number(&status["desiredNumberScheduled"]);
    let (updated, available) = (
        number(&status["updatedNumberScheduled"]),
        number(&status["numberAvailable"]),
    );
    let waiting = format!("Waiting for daemon set {name:?} rollout to finish:");
    if updated < desired {
        return going(format!(
            "{waiting} {updated} out of {desired} new pods have been updated..."
        ));
    }
    if available < desired {
        return going(format!(
            "{waiting} {available} of {desired} updated pods are available..."
        ));
    }
    done(format!("daemon set {name:?} successfully rolled out"))
}

fn stateful_set(object: &Value) -> Result<Progress> {
    rolling_only(object)?;
    let (spec, status) = (&object["spec"], &object["status"]);
    if number(&status["observedGeneration"]) == 0 || !is_observed(object) {
        return going("Waiting for statefulset spec update to be observed...".to_owned());
    }
    let (wanted, ready) = (number(&spec["replicas"]), number(&status["readyReplicas"]));
    if ready < wanted {
        return going(format!(
            "Waiting for {} pods to be ready...",
            wanted - ready
        ));
    }
    let updated = number(&status["updatedReplicas"]);
    if let Some(partition) = spec["updateStrategy"]["rollingUpdate"]["partition"]
        .as_i64()
        .filter(|at| *at > 0)
    {
        let new = wanted - partition;
        if updated < new {
            return going(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {new} new pods have been updated..."
            ));
        }
        return done(format!(
            "partitioned roll out complete: {updated} new pods have been updated..."
        ));
    }
    let revision = status["updateRevision"].as_str().unwrap_or_default();
    if status["updateRevision"] != status["currentRevision"] {
        return going(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."
        ));
    }
    let current = number(&status["currentReplicas"]);
    done(format!(
        "statefulset rolling update complete {current} pods at revision {revision}..."
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rollout_is_told_step_by_step() {
        let at = |observed: i64, replicas: i64, updated: i64, available: i64| {
            let object = json!({"metadata": {"name": "a", "generation": 2}, "spec": {"replicas": 3},
                "status": {"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
                           "availableReplicas": available}});
            deployment(&object).expect("a progress").message
        };
        assert_eq!(
            at(1, 0, 0, 0),
            "Waiting for deployment spec update to be observed..."
        );
        assert_eq!(
            at(2, 3, 1, 3),
            "Waiting for deployment \"a\" rollout to finish: 1 out of 3 new replicas have been updated..."
        );
        assert_eq!(
            at(2, 4, 3, 3),
            "Waiting for deployment \"a\" rollout to finish: 1 old replicas are pending termination..."
        );
        assert_eq!(
            at(2, 3, 3, 2),
            "Waiting for deployment \"a\" rollout to finish: 2 of 3 updated replicas are available..."
        );
        assert_eq!(at(2, 3, 3, 3), "deployment \"a\" successfully rolled out");
    }
}
