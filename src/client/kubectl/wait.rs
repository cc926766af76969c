//! `wait`: until a condition holds, a value stands at a path, or the object is there or gone.

use std::time::Duration;

use apimachinery::Object;
use clap::Args;
use kube_client::{DynamicApi, WatchEvent, WatchRequest};
use serde_json::Value;

use crate::arguments::{Selectors, Target, targets};
use crate::error::{Error, Result};
use crate::json_path::{Path, text_of};
use crate::manifest::{self, Files};
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// What a negative timeout stands for.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Args)]
pub(crate) struct WaitCommand {
    /// TYPE[,TYPE] [NAME...], or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// condition=NAME[=VALUE] | delete | create | jsonpath='{PATH}'[=VALUE]
    #[arg(long = "for", value_name = "WHAT")]
    condition: String,
    /// All objects of the kinds
    #[arg(long)]
    all: bool,
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// The longest wait; 0 looks once, a negative one waits a week
    #[arg(
        long,
        default_value = "30s",
        allow_hyphen_values = true,
        value_name = "DURATION"
    )]
    timeout: String,
    /// name|json|yaml
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Awaited {
    Condition {
        kind: String,
        status: String,
    },
    Deleted,
    Created,
    /// A value at a path; without a value anything.
    At(Path, Option<String>),
}

impl Awaited {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        if lower == "delete" {
            return Ok(Self::Deleted);
        }
        if lower == "create" {
            return Ok(Self::Created);
        }
        if let Some(condition) = text.strip_prefix("condition=") {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(Self::Condition {
                kind: kind.to_owned(),
                status: status.to_owned(),
            });
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let rest = rest.trim_matches('\'').replacen("}'=", "}=", 1);
            let rest = rest.as_str();
            // The path may have signs of equality of its own, within its braces.
            let end = if rest.starts_with('{') {
                rest.find("}=").map(|at| at + 1)
            } else {
                rest.find('=')
            };
            let (path, value) = match end {
                Some(end) => (
                    &rest[..end],
                    Some(rest[end + 1..].trim_matches(['\'', '"']).to_owned()),
                ),
                None => (rest, None),
            };
            let path = Path::parse_loose(path.trim_matches('\'')).map_err(Error::usage)?;
            return Ok(Self::At(path, value));
        }
        Err(Error::usage(format!("unrecognized condition: {text:?}")))
    }

    /// Whether an object, or its absence, is what is waited for.
    pub(crate) fn holds(&self, object: Option<&Object>) -> bool {
        let Some(object) = object else {
            return *self == Self::Deleted;
        };
        match self {
            Self::Deleted => false,
            Self::Created => true,
            Self::Condition { kind, status } => condition_holds(object, kind, status),
            Self::At(path, wanted) => {
                let value = object.clone().into_value();
                let found = path.find(&value);
                match wanted {
                    None => found.iter().any(|value| !value.is_null()),
                    Some(wanted) => {
                        matches!(found.as_slice(), [value] if text_of(value) == *wanted)
                    }
                }
            }
        }
    }
}

/// A condition that was made of an older generation says nothing about this one.
fn condition_holds(object: &Object, kind: &str, status: &str) -> bool {
    let conditions = object
        .at(&["status", "conditions"])
        .and_then(Value::as_array);
    let generation = object.generation();
    let current = |value: &Value| {
        value["observedGeneration"]
            .as_i64()
            .is_none_or(|seen| seen >= generation)
    };
    let status_is_current = object.at(&["status"]).is_none_or(|status| {
        status["observedGeneration"]
            .as_i64()
            .is_none_or(|seen| seen >= generation)
    });
    conditions.into_iter().flatten().any(|condition| {
        condition["type"]
            .as_str()
            .is_some_and(|found| found.eq_ignore_ascii_case(kind))
            && condition["status"]
                .as_str()
                .is_some_and(|found| found.eq_ignore_ascii_case(status))
            && current(condition)
    }) && status_is_current
}

impl WaitCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let awaited = Awaited::parse(&self.condition)?;
        let output = Output::parse(self.output.as_deref())?;
        let limit = match self.timeout.strip_prefix('-') {
            Some(_) => WEEK,
            None => times::parse_duration(&self.timeout)?,
        };
        let targets = self.targets(&awaited, session).await?;
        if targets.is_empty() {
            // Nothing is there: that is what was waited for.
            return if awaited == Awaited::Deleted {
                Ok(())
            } else {
                Err(Error::usage("no matching resources found"))
            };
        }
        let end = session.clock.monotonic() + limit;
        let mut errors = Vec::new();
        for (target, namespace) in targets {
            let name = target.name.unwrap_or_default();
            let api = session.client.dynamic(
                target.kind.resource.clone(),
                target.kind.namespace(&namespace),
            );
            let left = end.saturating_sub(session.clock.monotonic());
            match until(&api, &name, left, |object| Ok(awaited.holds(object))).await {
                Ok(object) => {
                    let object = object.map(Object::into_value).unwrap_or_default();
                    let text = match &output {
                        Output::Human | Output::Wide => {
                            format!("{} condition met\n", target.kind.label(&name))
                        }
                        other => crate::output::render(other, &object, &target.kind.label(&name)),
                    };
                    session.print(text)?;
                }
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)
    }

    async fn targets(
        &self,
        awaited: &Awaited,
        session: &mut Session,
    ) -> Result<Vec<(Target, String)>> {
        let catalogue = session.catalogue().await?;
        let mut found = Vec::new();
        if self.files.is_empty() {
            for target in targets(&self.arguments, &catalogue)? {
                if target.name.is_some() {
                    found.push((target, session.namespace.clone()));
                } else if self.all || !self.selectors.is_everything() {
                    found.extend(self.chosen(&target, session).await?);
                } else {
                    return Err(Error::usage(
                        "resource(s) were provided, but no name was specified",
                    ));
                }
            }
        } else {
            for manifest in self.files.read()? {
                let kind = catalogue.of_object(&manifest.object)?.clone();
                let namespace = manifest::namespace(&manifest.object, &session.namespace, false)?;
                found.push((
                    Target {
                        kind,
                        name: Some(manifest.object.name().to_owned()),
                    },
                    namespace,
                ));
            }
        }
        if *awaited == Awaited::Created {
            return Ok(found);
        }
        let mut there = Vec::new();
        for (target, namespace) in found {
            let api = session.client.dynamic(
                target.kind.resource.clone(),
                target.kind.namespace(&namespace),
            );
            match api.get(target.name.as_deref().unwrap_or_default()).await {
                Ok(_) => there.push((target, namespace)),
                Err(error) if error.is_not_found() && *awaited == Awaited::Deleted => {
                    session.say(format!(
                        "{} condition met",
                        target
                            .kind
                            .label(target.name.as_deref().unwrap_or_default())
                    ))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(there)
    }

    async fn chosen(&self, target: &Target, session: &Session) -> Result<Vec<(Target, String)>> {
        let namespace = if self.all_namespaces {
            ""
        } else {
            target.kind.namespace(&session.namespace)
        };
        let api = session
            .client
            .dynamic(target.kind.resource.clone(), namespace);
        let list = api
            .list(&self.selectors.labels, &self.selectors.fields)
            .await?;
        let found = list.items.iter().map(|item| {
            let target = Target {
                kind: target.kind.clone(),
                name: Some(item.key().name.clone()),
            };
            (target, item.key().namespace.clone())
        });
        Ok(found.collect())
    }
}

/// Waits until `holds` says so of the object or its absence, and gives the object; an error of `holds` ends the wait.
pub(crate) async fn until(
    api: &DynamicApi,
    name: &str,
    limit: Duration,
    mut holds: impl FnMut(Option<&Object>) -> Result<bool>,
) -> Result<Option<Object>> {
    let first = match api.get(name).await {
        Ok(object) => Some(object),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    if holds(first.as_ref())? {
        return Ok(first);
    }
    let resource = &api.resource().resource;
    let timed_out = || {
        Error::usage(format!(
            "timed out waiting for the condition on {resource}/{name}"
        ))
    };
    env::timeout(limit, changes(api, name, holds))
        .await
        .map_err(|_| timed_out())?
}

async fn changes(
    api: &DynamicApi,
    name: &str,
    mut holds: impl FnMut(Option<&Object>) -> Result<bool>,
) -> Result<Option<Object>> {
    let field = format!("metadata.name={name}");
    let tree = |stored: apimachinery::StoredObject| {
        stored
            .to_object()
            .map_err(|error| Error::usage(error.to_string()))
    };
    // A watch that the server ends is begun anew from a fresh list.
    loop {
        let list = api.list("", &field).await?;
        let object = list.items.into_iter().next().map(tree).transpose()?;
        if holds(object.as_ref())? {
            return Ok(object);
        }
        let watch = WatchRequest {
            list: api.list_request("", &field),
            after_revision: list.revision,
        };
        let mut events = api.client().watch(watch).await?;
        while let Some(event) = events.recv().await {
            let object = match event {
                WatchEvent::Added(stored) | WatchEvent::Modified(stored) => Some(tree(stored)?),
                WatchEvent::Deleted(_) => None,
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(_) => break,
            };
            if holds(object.as_ref())? {
                return Ok(object);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(awaited: &str, object: &Value) -> bool {
        let object = Object::from_value(object.clone());
        Awaited::parse(awaited)
            .expect("something to wait for")
            .holds(object.as_ref())
    }

    #[test]
    fn conditions_paths_and_absence() {
        let pod = json!({"metadata": {"generation": 2}, "status": {"phase": "Running", "observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]}});
        assert!(holds("condition=Ready", &pod));
        assert!(holds("condition=ready=true", &pod));
        assert!(!holds("condition=Ready=False", &pod));
        assert!(!holds("condition=Old", &pod));
        assert!(holds("jsonpath={.status.phase}=Running", &pod));
        assert!(holds("jsonpath='{.status.phase}'=Running", &pod));
        assert!(holds("jsonpath={.status.phase}", &pod));
        assert!(holds(
            r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}=True"#,
            &pod
        ));
        assert!(!holds("jsonpath={.status.hostIP}", &pod));
        assert!(Awaited::Deleted.holds(None));
        assert!(Awaited::parse("whatever").is_err());
    }
}
