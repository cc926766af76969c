//! `get -w`: what there is, and then each change as it comes.

use apimachinery::ApiError;
use bytes::Bytes;
use http_body_util::BodyExt;
use kube_client::{Method, Request, with_query};
use serde_json::Value;

use super::{GetCommand, Group};
use crate::error::{Error, Result};
use crate::output::{self, Output};
use crate::session::{PLAIN, Session};
use crate::table::{TABLES, Table};

/// The longest line of a watch that is read: an event carries one object.
const EVENT_BYTES_MAX: usize = 16 << 20;
const WIDTH_MIN: usize = 6;
const PADDING: usize = 3;

impl GetCommand {
    pub(super) async fn watch(
        &self,
        groups: &[Group],
        output: &Output,
        session: &mut Session,
    ) -> Result<()> {
        let [group] = groups else {
            return Err(Error::usage("you may only specify a single resource type"));
        };
        if group.names.len() > 1 {
            return Err(Error::usage(
                "watch is only supported on individual resources and resource collections",
            ));
        }
        let mut printer = Printer::new(self, group, output);
        let accept = if output.is_table() { TABLES } else { PLAIN };
        let namespace = group.kind.namespace(self.namespace(session)).to_owned();
        let mut path = self.list_path(&group.kind.resource, &namespace);
        if let Some(name) = group.names.first() {
            path = with_query(path, "fieldSelector", &format!("metadata.name={name}"));
        }
        let list = session.get(path.clone(), accept).await?;
        let mut revision = list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if !self.watch_only {
            let text = printer.list(&list);
            session.print(text)?;
        } else if output.is_table() {
            printer.columns = Table::of_answer(&list).columns;
        }
        // A server ends every watch some time: go on from where it was.
        loop {
            let from = with_query(
                with_query(path.clone(), "watch", "true"),
                "resourceVersion",
                &revision,
            );
            follow(&from, accept, &mut revision, &mut printer, session).await?;
        }
    }
}

/// One watch, until the server ends it.
async fn follow(
    path: &str,
    accept: &'static str,
    revision: &mut String,
    printer: &mut Printer<'_>,
    session: &mut Session,
) -> Result<()> {
    let request = Request {
        method: Method::Get,
        path: path.to_owned(),
        content_type: "",
        body: Bytes::new(),
    };
    let mut body = session.http()?.open_accepting(request, accept).await?;
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(()) };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        pending.extend_from_slice(&data);
        if pending.len() > EVENT_BYTES_MAX {
            return Err(Error::usage(format!(
                "an event of more than {EVENT_BYTES_MAX} bytes"
            )));
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let Ok(event) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            if event["type"] == "ERROR" {
                let status = ApiError::from_status(&event["object"]);
                return Err(status.map_or_else(|| Error::usage("the watch failed"), Error::from));
            }
            let text = printer.event(&event, revision);
            session.print(text)?;
        }
    }
    Ok(())
}

/// Turns what a watch tells into lines; columns never get narrower.
struct Printer<'a> {
    command: &'a GetCommand,
    group: &'a Group,
    output: &'a Output,
    columns: Vec<crate::table::Column>,
    widths: Vec<usize>,
    has_headers: bool,
}

impl<'a> Printer<'a> {
    fn new(command: &'a GetCommand, group: &'a Group, output: &'a Output) -> Self {
        Self {
            command,
            group,
            output,
            columns: Vec::new(),
            widths: Vec::new(),
            has_headers: false,
        }
    }

    fn list(&mut self, answer: &Value) -> String {
        if self.output.is_table() {
            let table = Table::of_answer(answer);
            self.columns.clone_from(&table.columns);
            return if table.rows.is_empty() {
                String::new()
            } else {
                self.table(&table, "ADDED")
            };
        }
        let objects = super::unpack(&self.group.kind, answer.clone());
        objects
            .into_iter()
            .map(|(_, object)| self.object(object, "ADDED"))
            .collect()
    }

    fn event(&mut self, event: &Value, revision: &mut String) -> String {
        let kind = event["type"].as_str().unwrap_or_default();
        let object = &event["object"];
        let version = match object["kind"].as_str() {
            Some("Table") => &object["rows"][0]["object"]["metadata"]["resourceVersion"],
            _ => &object["metadata"]["resourceVersion"],
        };
        if let Some(version) = version
            .as_str()
            .or(object["metadata"]["resourceVersion"].as_str())
        {
            version.clone_into(revision);
        }
        if kind == "BOOKMARK" {
            return String::new();
        }
        if object["kind"] != "Table" {
            return self.object(object.clone(), kind);
        }
        let mut table = Table::of_answer(object);
        if table.columns.is_empty() {
            table.columns.clone_from(&self.columns);
        } else {
            self.columns.clone_from(&table.columns);
        }
        self.table(&table, kind)
    }

    fn table(&mut self, table: &Table, event: &str) -> String {
        let mut layout = self.command.layout(&self.group.kind, 1, self.output);
        layout.with_headers &= !std::mem::replace(&mut self.has_headers, true);
        let has_headers = layout.with_headers;
        let lines = table.lines(&self.group.kind, &layout);
        let lines = lines.iter().enumerate().map(|(index, line)| {
            match (self.command.output_watch_events, has_headers && index == 0) {
                (false, _) => line.clone(),
                (true, true) => format!("EVENT\t{line}"),
                (true, false) => format!("{event}\t{line}"),
            }
        });
        let lines: Vec<String> = lines.collect();
        lines.iter().for_each(|line| self.widen(line));
        lines.iter().map(|line| self.aligned(line)).collect()
    }

    fn widen(&mut self, line: &str) {
        for (index, cell) in line.split('\t').enumerate() {
            self.widths
                .resize(self.widths.len().max(index + 1), WIDTH_MIN);
            self.widths[index] = self.widths[index].max(cell.chars().count() + PADDING);
        }
    }

    fn aligned(&self, line: &str) -> String {
        let last = line.split('\t').count() - 1;
        let mut text = String::new();
        for (index, cell) in line.split('\t').enumerate() {
            text.push_str(cell);
            if index < last {
                let used = cell.chars().count();
                text.extend(std::iter::repeat_n(' ', self.widths[index] - used));
            }
        }
        text + "\n"
    }

    fn object(&self, object: Value, event: &str) -> String {
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let label = self.group.kind.label(&name);
        let object = if self.command.show_managed_fields {
            object
        } else {
            output::shown(object)
        };
        let object = match self.command.output_watch_events {
            true => serde_json::json!({"type": event, "object": object}),
            false => object,
        };
        match self.output {
            Output::Yaml => format!("---\n{}", output::render(self.output, &object, &label)),
            other => output::render(other, &object, &label),
        }
    }
}
