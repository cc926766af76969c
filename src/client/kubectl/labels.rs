//! `label` and `annotate`: `KEY=VALUE` sets, `KEY-` removes; what is set already is changed only with `--overwrite`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::apply::DryRun;
use crate::error::{Error, Result};
use crate::objects::{Choice, Found, MERGE};
use crate::output::{self, Output};
use crate::session::Session;

#[derive(Args)]
pub(crate) struct LabelCommand {
    #[command(flatten)]
    change: ChangeArguments,
}

#[derive(Args)]
pub(crate) struct AnnotateCommand {
    #[command(flatten)]
    change: ChangeArguments,
}

#[derive(Args)]
struct ChangeArguments {
    /// TYPE NAME... or TYPE/NAME..., then KEY=VALUE or KEY- ...
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// Change what is set already
    #[arg(long)]
    overwrite: bool,
    /// Show what is set
    #[arg(long)]
    list: bool,
    /// Only if the object has this version
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "VERSION"
    )]
    resource_version: String,
    /// none, client or server
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_name = "WHERE")]
    dry_run: String,
    /// Whose fields these are
    #[arg(long, value_name = "NAME")]
    field_manager: Option<String>,
    /// json|yaml|name
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
}

/// The part of the metadata that a command changes.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Labels,
    Annotations,
}

impl Part {
    fn field(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Self::Labels => "label",
            Self::Annotations => "annotation",
        }
    }

    fn manager(self) -> &'static str {
        match self {
            Self::Labels => "kubectl-label",
            Self::Annotations => "kubectl-annotate",
        }
    }
}

impl LabelCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        self.change.run(Part::Labels, session).await
    }
}

impl AnnotateCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        self.change.run(Part::Annotations, session).await
    }
}

/// What is set and what is removed (`None`), by key.
type Changes = BTreeMap<String, Option<String>>;

impl ChangeArguments {
    async fn run(self, part: Part, session: &mut Session) -> Result<()> {
        let output = Output::parse(self.output.as_deref())?;
        let dry_run = DryRun::parse(&self.dry_run)?;
        let (objects, changes) = split(&self.arguments, part)?;
        if changes.is_empty() && !self.list {
            return Err(Error::usage(format!(
                "at least one {} update is required",
                part.singular()
            )));
        }
        let mut errors = Vec::new();
        for found in self.choice.read(&objects, &mut errors, session).await? {
            if self.list {
                let set = found.object["metadata"][part.field()]
                    .as_object()
                    .into_iter()
                    .flatten();
                for (key, value) in set {
                    session.say(format!("{key}={}", value.as_str().unwrap_or_default()))?;
                }
                continue;
            }
            if let Err(error) = self
                .change(&found, part, &changes, dry_run, &output, session)
                .await
            {
                errors.push(error);
            }
        }
        Error::all(errors)
    }

    async fn change(
        &self,
        found: &Found,
        part: Part,
        changes: &Changes,
        dry_run: DryRun,
        output: &Output,
        session: &mut Session,
    ) -> Result<()> {
        let set = &found.object["metadata"][part.field()];
        for (key, value) in changes {
            if value.is_none() && set.get(key).is_none() && part == Part::Labels {
                session.say(format!("label {key:?} not found."))?;
            }
        }
        let plan = plan(set, changes, self.overwrite, part)?;
        let mut object = found.object.clone();
        if !plan.patch.is_empty() && dry_run != DryRun::Client {
            let mut metadata = json!({part.field(): plan.patch});
            if !self.resource_version.is_empty() {
                metadata["resourceVersion"] = self.resource_version.clone().into();
            }
            let manager = self.field_manager.as_deref().unwrap_or(part.manager());
            object = found
                .patch(
                    MERGE,
                    &json!({"metadata": metadata}),
                    (dry_run, manager),
                    session,
                )
                .await?;
        }
        let done = match part {
            Part::Annotations => "annotated",
            Part::Labels => plan.done,
        };
        let done = format!("{done}{}", dry_run.suffix());
        session.print(output::changed(output, &found.kind, &object, &done))
    }
}

/// The arguments up to the first change, and the changes.
fn split(arguments: &[String], part: Part) -> Result<(Vec<String>, Changes)> {
    let is_change = |argument: &&String| {
        argument.contains('=') || (argument.ends_with('-') && argument.len() > 1)
    };
    let objects: Vec<String> = arguments
        .iter()
        .take_while(|argument| !is_change(argument))
        .cloned()
        .collect();
    let mut changes = Changes::new();
    for argument in &arguments[objects.len()..] {
        let (key, value) = match (argument.split_once('='), argument.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => {
                let name = part.singular();
                return Err(Error::usage(format!(
                    "all resources must be specified before {name} changes: {argument}"
                )));
            }
        };
        if key.is_empty() {
            return Err(Error::usage(format!(
                "invalid {} spec: {argument}",
                part.singular()
            )));
        }
        if changes.insert(key.to_owned(), value).is_some() {
            return Err(Error::usage(format!(
                "can not both modify and remove a {} in the same command",
                part.singular()
            )));
        }
    }
    Ok((objects, changes))
}

#[derive(Debug, PartialEq)]
struct Plan {
    /// Only what differs.
    patch: Map<String, Value>,
    done: &'static str,
}

fn plan(set: &Value, changes: &Changes, overwrite: bool, part: Part) -> Result<Plan> {
    let mut patch = Map::new();
    let (mut adds, mut removes) = (false, false);
    for (key, value) in changes {
        let current = set.get(key).and_then(Value::as_str);
        match (value, current) {
            (Some(value), Some(current)) if value == current => {}
            (Some(_), Some(current)) if !overwrite => {
                return Err(Error::usage(match part {
                    Part::Labels => {
                        format!("'{key}' already has a value ({current}), and --overwrite is false")
                    }
                    Part::Annotations => {
                        format!(
                            "--overwrite is false but found the following declared annotation(s): '{key}' already has a value ({current})"
                        )
                    }
                }));
            }
            (Some(value), _) => {
                adds = true;
                patch.insert(key.clone(), value.clone().into());
            }
            (None, Some(_)) => {
                removes = true;
                patch.insert(key.clone(), Value::Null);
            }
            (None, None) => {}
        }
    }
    let done = match (adds, removes) {
        (true, true) => "modified",
        (true, false) => "labeled",
        (false, true) => "unlabeled",
        (false, false) => "not labeled",
    };
    Ok(Plan { patch, done })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(arguments: &[&str]) -> (Vec<String>, Changes) {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        split(&arguments, Part::Labels).expect("arguments")
    }

    #[test]
    fn objects_come_before_changes() {
        let (objects, changes) = changes(&["pods", "a", "x=1", "y-"]);
        assert_eq!(objects, ["pods", "a"]);
        assert_eq!(changes["x"].as_deref(), Some("1"));
        assert_eq!(changes["y"], None);
    }

    #[test]
    fn what_is_set_is_changed_only_when_told() {
        let set = json!({"x": "1", "y": "2"});
        let (_, wanted) = changes(&["pods", "x=1", "y-", "z=3"]);
        let planned = plan(&set, &wanted, false, Part::Labels).expect("a plan");
        assert_eq!(Value::Object(planned.patch), json!({"y": null, "z": "3"}));
        assert_eq!(planned.done, "modified");
        let (_, other) = changes(&["pods", "x=2"]);
        assert_eq!(
            plan(&set, &other, false, Part::Labels)
                .expect_err("set already")
                .to_string(),
            "error: 'x' already has a value (1), and --overwrite is false"
        );
        assert_eq!(
            plan(&set, &other, true, Part::Labels).expect("a plan").done,
            "labeled"
        );
    }
}
