//! `get`: objects in the server's tables or in a form of one's own, once or for as long as one watches.

mod pods;
mod watch;

use std::cmp::Ordering;

use apimachinery::GroupVersionResource;
use clap::Args;
use kube_client::{ClientError, collection_path, object_path, with_query};
use serde_json::Value;

use crate::arguments::{Selectors, Target, targets};
use crate::catalogue::ResourceKind;
use crate::error::{Error, Result};
use crate::json_path::Path;
use crate::manifest::Files;
use crate::output::{self, Output};
use crate::session::{PLAIN, Session};
use crate::tab_writer::{TABLE, align};
use crate::table::{Layout, TABLES, Table};
pub(crate) use pods::PodsCommand;

/// Objects in one page of a list.
const PAGE_OBJECTS: &str = "500";

#[derive(Args, Default)]
pub(crate) struct GetCommand {
    /// TYPE[,TYPE] [NAME...], or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// wide|json|yaml|name|jsonpath=...|custom-columns=...
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
    /// Leave the headers out
    #[arg(long)]
    no_headers: bool,
    /// Show all labels in a column
    #[arg(long)]
    show_labels: bool,
    /// Show these labels in columns of their own
    #[arg(long, short = 'L', value_delimiter = ',', value_name = "KEY")]
    label_columns: Vec<String>,
    /// Show the kind before each name
    #[arg(long)]
    show_kind: bool,
    /// Keep managedFields in JSON and YAML
    #[arg(long)]
    show_managed_fields: bool,
    /// Sort by the value at a JSONPath
    #[arg(long, value_name = "JSONPATH")]
    sort_by: Option<String>,
    /// Go on showing changes
    #[arg(long, short = 'w')]
    watch: bool,
    /// Show changes only
    #[arg(long)]
    watch_only: bool,
    /// Show what kind of change each line is
    #[arg(long)]
    output_watch_events: bool,
    /// Objects that are missing are no failure
    #[arg(long)]
    ignore_not_found: bool,
    /// Status, scale or another subresource
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    subresource: String,
    /// Print what the server answers to this path
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
    /// Objects in one answer of the server
    #[arg(long, default_value = PAGE_OBJECTS, value_name = "COUNT")]
    chunk_size: String,
}

/// Neighbouring targets of one kind: they share a table.
struct Group {
    kind: ResourceKind,
    names: Vec<String>,
}

impl GetCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        if let Some(path) = &self.raw {
            let answer = session.client.get_raw(path).await?;
            return session.print(&answer);
        }
        let output = Output::parse(self.output.as_deref())?;
        let groups = self.groups(session).await?;
        if self.watch || self.watch_only {
            return self.watch(&groups, &output, session).await;
        }
        if output.is_table() {
            self.show_tables(&groups, &output, session).await
        } else {
            self.show_objects(&groups, &output, session).await
        }
    }

    async fn groups(&self, session: &mut Session) -> Result<Vec<Group>> {
        let catalogue = session.catalogue().await?;
        let targets = if self.files.is_empty() {
            targets(&self.arguments, &catalogue)?
        } else {
            let mut targets = Vec::new();
            for manifest in self.files.read()? {
                let kind = catalogue.of_object(&manifest.object)?.clone();
                targets.push(Target {
                    kind,
                    name: Some(manifest.object.name().to_owned()),
                });
            }
            targets
        };
        let mut groups: Vec<Group> = Vec::new();
        for target in targets {
            if target.name.is_some() && !self.selectors.is_everything() {
                return Err(Error::usage(
                    "name cannot be provided when a selector is specified",
                ));
            }
            if target.name.is_some() && self.all_namespaces && target.kind.is_namespaced {
                return Err(Error::usage(
                    "a resource cannot be retrieved by name across all namespaces",
                ));
            }
            match groups.last_mut() {
                Some(group) if group.kind == target.kind => group.names.extend(target.name),
                _ => groups.push(Group {
                    kind: target.kind,
                    names: target.name.into_iter().collect(),
                }),
            }
        }
        Ok(groups)
    }

    /// The namespace of a request; empty for all of them.
    fn namespace<'a>(&self, session: &'a Session) -> &'a str {
        if self.all_namespaces {
            ""
        } else {
            &session.namespace
        }
    }

    /// The answers of one group: one a name, or the pages of a list. Failures go to `errors`.
    async fn answers(
        &self,
        group: &Group,
        accept: &'static str,
        errors: &mut Vec<Error>,
        session: &mut Session,
    ) -> Vec<Value> {
        let include = if self.sort_by.is_some() && accept == TABLES {
            "Object"
        } else {
            ""
        };
        let namespace = group.kind.namespace(self.namespace(session)).to_owned();
        let resource = &group.kind.resource;
        if group.names.is_empty() {
            let path = with_query(
                self.list_path(resource, &namespace),
                "includeObject",
                include,
            );
            return match pages(path, &self.chunk_size, accept, session).await {
                Ok(pages) => pages,
                Err(error) => {
                    errors.push(error.into());
                    Vec::new()
                }
            };
        }
        let mut answers = Vec::new();
        for name in &group.names {
            let path = object_path(resource, Some(&namespace), name, &self.subresource);
            match session
                .get(with_query(path, "includeObject", include), accept)
                .await
            {
                Ok(answer) => answers.push(answer),
                Err(error) if error.is_not_found() && self.ignore_not_found => {}
                Err(error) => errors.push(error.into()),
            }
        }
        answers
    }

    fn list_path(&self, resource: &GroupVersionResource, namespace: &str) -> String {
        let path = collection_path(resource, Some(namespace));
        let path = with_query(path, "labelSelector", &self.selectors.labels);
        with_query(path, "fieldSelector", &self.selectors.fields)
    }

    fn layout(&self, kind: &ResourceKind, kinds: usize, output: &Output) -> Layout {
        Layout {
            with_headers: !self.no_headers,
            with_namespace: self.all_namespaces && kind.is_namespaced,
            with_kind: self.show_kind || kinds > 1,
            all_labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            ..Layout::new(output)
        }
    }

    async fn show_tables(
        &self,
        groups: &[Group],
        output: &Output,
        session: &mut Session,
    ) -> Result<()> {
        let mut errors = Vec::new();
        let mut text = String::new();
        for group in groups {
            let mut table = Table::default();
            for answer in self.answers(group, TABLES, &mut errors, session).await {
                let page = Table::of_answer(&answer);
                if table.columns.is_empty() {
                    table.columns = page.columns;
                }
                table.rows.extend(page.rows);
            }
            if table.rows.is_empty() {
                continue;
            }
            if let Some(path) = &self.sort_by {
                sort(&mut table.rows, path, |row| &row.object)?;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            let lines = table.lines(&group.kind, &self.layout(&group.kind, groups.len(), output));
            text.push_str(&align(&lines.join("\n"), TABLE));
        }
        if text.is_empty() && errors.is_empty() && !self.ignore_not_found {
            let is_namespaced = groups.iter().any(|group| group.kind.is_namespaced);
            session.warn(match is_namespaced && !self.all_namespaces {
                true => format!("No resources found in {} namespace.", session.namespace),
                false => "No resources found".to_owned(),
            });
        }
        session.print(text)?;
        Error::all(errors)
    }

    async fn show_objects(
        &self,
        groups: &[Group],
        output: &Output,
        session: &mut Session,
    ) -> Result<()> {
        let mut errors = Vec::new();
        let mut objects: Vec<(ResourceKind, Value)> = Vec::new();
        let mut is_list = groups.len() != 1 || groups[0].names.len() != 1;
        for group in groups {
            for answer in self.answers(group, PLAIN, &mut errors, session).await {
                objects.extend(unpack(&group.kind, answer));
            }
            is_list |= group.names.is_empty();
        }
        if let Some(path) = &self.sort_by {
            sort(&mut objects, path, |(_, object)| object)?;
        }
        let labels: Vec<String> = objects
            .iter()
            .map(|(kind, object)| {
                kind.label(object["metadata"]["name"].as_str().unwrap_or_default())
            })
            .collect();
        let mut objects: Vec<Value> = objects.into_iter().map(|(_, object)| object).collect();
        if !self.show_managed_fields {
            objects = objects.into_iter().map(output::shown).collect();
        }
        if objects.is_empty() && (!is_list || !errors.is_empty()) {
            return Error::all(errors);
        }
        let value = if is_list {
            output::list(objects)
        } else {
            objects.remove(0)
        };
        let text = match output {
            Output::Name => labels.iter().map(|label| format!("{label}\n")).collect(),
            Output::CustomColumns(columns) if self.no_headers => {
                columns.render_without_headers(&value)
            }
            output => output::render(output, &value, ""),
        };
        session.print(text)?;
        Error::all(errors)
    }
}

/// Every page of a list.
async fn pages(
    path: String,
    chunk: &str,
    accept: &'static str,
    session: &mut Session,
) -> Result<Vec<Value>, ClientError> {
    let path = with_query(path, "limit", if chunk == "0" { "" } else { chunk });
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let page = session
            .get(with_query(path.clone(), "continue", &token), accept)
            .await?;
        token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        pages.push(page);
        if token.is_empty() {
            return Ok(pages);
        }
    }
}

/// The objects of an answer, each with its kind.
fn unpack(kind: &ResourceKind, mut answer: Value) -> Vec<(ResourceKind, Value)> {
    let is_list = answer["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    let Some(Value::Array(items)) = answer.get_mut("items").filter(|_| is_list).map(Value::take)
    else {
        if is_list {
            return Vec::new();
        }
        return vec![(kind.clone(), answer)];
    };
    let group_version = kind.resource.group_version().to_string();
    let whole = items.into_iter().map(|mut item| {
        item["apiVersion"] = group_version.clone().into();
        item["kind"] = kind.kind.clone().into();
        (kind.clone(), item)
    });
    whole.collect()
}

fn sort<T>(items: &mut [T], path: &str, object: impl Fn(&T) -> &Value) -> Result<()> {
    let path = Path::parse_loose(path).map_err(Error::usage)?;
    items.sort_by(|left, right| {
        let (left, right) = (path.find(object(left)), path.find(object(right)));
        compare(left.first().copied(), right.first().copied())
    });
    Ok(())
}

/// What is missing comes first; numbers by size, texts naturally as quantities where both are.
fn compare(left: Option<&Value>, right: Option<&Value>) -> Ordering {
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => left
            .as_f64()
            .partial_cmp(&right.as_f64())
            .unwrap_or(Ordering::Equal),
        (Some(Value::String(left)), Some(Value::String(right))) => {
            let quantities = (
                apimachinery::Quantity::parse(left),
                apimachinery::Quantity::parse(right),
            );
            match quantities {
                (Ok(left), Ok(right)) => left.cmp(&right),
                _ => left.cmp(right),
            }
        }
        (left, right) => left.is_some().cmp(&right.is_some()),
    }
}
