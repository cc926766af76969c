//! `rollout history` and `rollout undo`: the revisions of a workload, and the way back to one.
//!
//! A deployment's revisions are its replica sets; those of daemon sets and stateful sets are ControllerRevisions.

use std::collections::BTreeMap;

use apimachinery::{GroupVersionResource, Object};
use clap::Args;
use serde_json::{Value, json};

use super::Workloads;
use crate::apply::DryRun;
use crate::describe::pod_template_text;
use crate::error::{Error, Result};
use crate::objects::{Found, JSON_PATCH, STRATEGIC};
use crate::session::{FIELD_MANAGER, Session};
use crate::tab_writer::{DESCRIPTION, align};
use crate::workloads::selector_text;

const REVISION: &str = "deployment.kubernetes.io/revision";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const POD_TEMPLATE_HASH: &str = "pod-template-hash";

#[derive(Args)]
pub(crate) struct HistoryCommand {
    #[command(flatten)]
    workloads: Workloads,
    /// Show this revision in detail
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    revision: i64,
}

#[derive(Args)]
pub(crate) struct UndoCommand {
    #[command(flatten)]
    workloads: Workloads,
    /// The revision to go back to; 0 is the one before the latest
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    to_revision: i64,
    /// none, client or server
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_name = "WHERE")]
    dry_run: String,
}

impl HistoryCommand {
    pub(super) async fn run(self, session: &mut Session) -> Result<()> {
        let mut errors = Vec::new();
        for found in self.workloads.read(&mut errors, session).await? {
            let revisions = revisions(&found, session).await?;
            let text = if self.revision > 0 {
                let wanted = revisions.get(&self.revision);
                let wanted =
                    wanted.ok_or_else(|| Error::usage("unable to find the specified revision"))?;
                let template = pod_template_text(template(&found, wanted));
                format!(
                    "{} with revision #{}\n{template}",
                    found.label(),
                    self.revision
                )
            } else {
                format!("{} \n{}", found.label(), table(&revisions))
            };
            session.say(text)?;
        }
        Error::all(errors)
    }
}

fn table(revisions: &BTreeMap<i64, Value>) -> String {
    if revisions.is_empty() {
        return "No rollout history found.".to_owned();
    }
    let mut text = "REVISION\tCHANGE-CAUSE\n".to_owned();
    for (revision, object) in revisions {
        let cause = object["metadata"]["annotations"][CHANGE_CAUSE]
            .as_str()
            .unwrap_or("<none>");
        text.push_str(&format!("{revision}\t{cause}\n"));
    }
    align(&text, DESCRIPTION)
}

/// What holds each revision, by its number.
async fn revisions(found: &Found, session: &Session) -> Result<BTreeMap<i64, Value>> {
    let resource = match found.kind.kind.as_str() {
        "Deployment" => "replicasets",
        "DaemonSet" | "StatefulSet" => "controllerrevisions",
        _ => {
            return Err(Error::usage(format!(
                "no history viewer has been implemented for {:?}",
                found.kind.resource.group_resource().to_string()
            )));
        }
    };
    let selector = selector_text(&found.object["spec"]["selector"]).unwrap_or_default();
    let api = session.client.dynamic(
        GroupVersionResource::new("apps", "v1", resource),
        &found.namespace,
    );
    let uid = found.object["metadata"]["uid"].as_str().unwrap_or_default();
    let mut revisions = BTreeMap::new();
    for item in &api.list(&selector, "").await?.items {
        let object = item
            .to_object()
            .map_err(|error| Error::usage(error.to_string()))?;
        if !object
            .owner_references()
            .iter()
            .any(|owner| owner.uid == uid)
        {
            continue;
        }
        if let Some(number) = number(&object) {
            revisions.insert(number, object.into_value());
        }
    }
    Ok(revisions)
}

fn number(object: &Object) -> Option<i64> {
    let annotated = object
        .annotation(REVISION)
        .and_then(|text| text.parse().ok());
    annotated.or_else(|| object.0.get("revision").and_then(Value::as_i64))
}

/// The pod template of a revision.
fn template<'a>(found: &Found, revision: &'a Value) -> &'a Value {
    match found.kind.kind.as_str() {
        "Deployment" => &revision["spec"]["template"],
        _ => &revision["data"]["spec"]["template"],
    }
}

impl UndoCommand {
    pub(super) async fn run(self, session: &mut Session) -> Result<()> {
        let dry_run = DryRun::parse(&self.dry_run)?;
        let mut errors = Vec::new();
        for found in self.workloads.read(&mut errors, session).await? {
            let revisions = revisions(&found, session).await?;
            match self.undo(&found, &revisions, dry_run, session).await {
                Ok(done) => session.say(format!("{} {done}", found.label()))?,
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)
    }

    async fn undo(
        &self,
        found: &Found,
        revisions: &BTreeMap<i64, Value>,
        dry_run: DryRun,
        session: &mut Session,
    ) -> Result<String> {
        let number = self.choose(revisions)?;
        let Some((content_type, patch)) = plan(found, &revisions[&number])? else {
            return Ok(format!(
                "skipped rollback (current template already matches revision {number})"
            ));
        };
        if dry_run != DryRun::Client {
            found
                .patch(content_type, &patch, (dry_run, FIELD_MANAGER), session)
                .await?;
        }
        Ok(format!("rolled back{}", dry_run.suffix()))
    }

    fn choose(&self, revisions: &BTreeMap<i64, Value>) -> Result<i64> {
        if self.to_revision > 0 {
            return match revisions.contains_key(&self.to_revision) {
                true => Ok(self.to_revision),
                false => Err(Error::usage(format!(
                    "unable to find specified revision {} in history",
                    self.to_revision
                ))),
            };
        }
        let before_latest = revisions.keys().rev().nth(1).copied();
        before_latest.ok_or_else(|| Error::usage("no last revision to roll back to"))
    }
}

/// The patch that brings a revision back; `None` where the template is that already.
fn plan(found: &Found, revision: &Value) -> Result<Option<(&'static str, Value)>> {
    if found.kind.kind != "Deployment" {
        let mut current = found.object["spec"]["template"].clone();
        let mut wanted = template(found, revision).clone();
        for template in [&mut current, &mut wanted] {
            if let Some(members) = template.as_object_mut() {
                members.remove("$patch");
            }
        }
        return Ok((current != wanted).then(|| (STRATEGIC, revision["data"].clone())));
    }
    if found.object["spec"]["paused"] == true {
        return Err(Error::usage(format!(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume deployment/{}' and \
             try again",
            found.name
        )));
    }
    let mut wanted = template(found, revision).clone();
    if let Some(labels) = wanted["metadata"]["labels"].as_object_mut() {
        labels.remove(POD_TEMPLATE_HASH);
    }
    if found.object["spec"]["template"] == wanted {
        return Ok(None);
    }
    let mut changes = vec![json!({"op": "replace", "path": "/spec/template", "value": wanted})];
    if let Some(cause) = revision["metadata"]["annotations"].get(CHANGE_CAUSE) {
        changes.push(json!({"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": cause}));
    }
    Ok(Some((JSON_PATCH, Value::Array(changes))))
}

#[cfg(test)]
mod tests {
    use env::SystemClock;
    use kube_client::fake::FakeApi;

    use super::*;
    use crate::catalogue::Catalogue;

    #[tokio::test]
    async fn going_back_takes_the_template_without_its_hash() {
        let client = FakeApi::new(SystemClock::shared()).client();
        let catalogue = Catalogue::discover(&client).await.expect("discovery");
        let found = Found {
            kind: catalogue.find("deployments").expect("a kind").clone(),
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            object: json!({"spec": {"template": {"metadata": {"labels": {"x": "2"}}}}}),
        };
        let revision = |label: &str| json!({"spec": {"template": {"metadata": {"labels": {"x": label, POD_TEMPLATE_HASH: "h"}}}}});
        let (_, patch) = plan(&found, &revision("1"))
            .expect("a plan")
            .expect("a change");
        assert_eq!(
            patch[0]["value"],
            json!({"metadata": {"labels": {"x": "1"}}})
        );
        assert_eq!(plan(&found, &revision("2")).expect("a plan"), None);
    }
}
