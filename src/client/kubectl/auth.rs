//! `auth`: who one is, and what one may do.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::objects::review;
use crate::output::{Output, render};
use crate::session::Session;
use crate::tab_writer::{TABLE, align};

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
const AUTHENTICATION: &str = "/apis/authentication.k8s.io/v1";

#[derive(Subcommand)]
pub(crate) enum AuthCommand {
    /// Whether one may do something
    CanI(CanICommand),
    /// Who one is
    Whoami(WhoamiCommand),
}

#[derive(Args)]
pub(crate) struct CanICommand {
    /// VERB TYPE [NAME], VERB TYPE/NAME, or VERB /path
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// Everything one may do
    #[arg(long)]
    list: bool,
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// With this subresource
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    subresource: String,
    /// Only the exit code
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Leave the headers out
    #[arg(long)]
    no_headers: bool,
}

#[derive(Args)]
pub(crate) struct WhoamiCommand {
    /// json|yaml
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
}

impl AuthCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        match self {
            Self::CanI(command) if command.list => command.list(session).await,
            Self::CanI(command) => command.check(session).await,
            Self::Whoami(command) => command.run(session).await,
        }
    }
}

impl CanICommand {
    async fn check(&self, session: &mut Session) -> Result<()> {
        let spec = self.question(session).await?;
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
        let answer = review(
            &format!("{AUTHORIZATION}/selfsubjectaccessreviews"),
            &body,
            session,
        )
        .await?;
        let status = &answer["status"];
        let is_allowed = status["allowed"] == true;
        if !self.quiet {
            let mut text = if is_allowed { "yes" } else { "no" }.to_owned();
            let reasons = [&status["reason"], &status["evaluationError"]];
            for reason in reasons
                .into_iter()
                .filter_map(Value::as_str)
                .filter(|why| !is_allowed && !why.is_empty())
            {
                text.push_str(&format!(" - {reason}"));
            }
            session.say(text)?;
        }
        if is_allowed {
            Ok(())
        } else {
            Err(Error::Exit(1))
        }
    }

    async fn question(&self, session: &mut Session) -> Result<Value> {
        let (verb, what, name) = match self.arguments.as_slice() {
            [verb, what] => (verb, what.as_str(), ""),
            [verb, what, name] => (verb, what.as_str(), name.as_str()),
            _ => {
                return Err(Error::usage(
                    "you must specify two or three arguments: verb, resource, and optional resourceName",
                ));
            }
        };
        if what.starts_with('/') {
            return Ok(json!({"nonResourceAttributes": {"verb": verb, "path": what}}));
        }
        let (what, name) = match what.split_once('/') {
            Some((what, name)) => (what, name),
            None => (what, name),
        };
        let catalogue = session.catalogue().await?;
        let (group, resource, is_namespaced) = match catalogue.find(what) {
            Ok(kind) => (
                kind.resource.group.to_string(),
                kind.resource.resource.to_string(),
                kind.is_namespaced,
            ),
            Err(_) if what == "*" => ("*".to_owned(), "*".to_owned(), true),
            Err(_) => {
                session.warn(format!(
                    "Warning: the server doesn't have a resource type '{what}'\n"
                ));
                let (resource, group) = what.split_once('.').unwrap_or((what, ""));
                (group.to_owned(), resource.to_owned(), true)
            }
        };
        if !is_namespaced && !self.all_namespaces {
            session.warn(format!(
                "Warning: resource '{resource}' is not namespace scoped{}\n",
                in_group(&group)
            ));
        }
        let namespace = if self.all_namespaces {
            ""
        } else {
            &session.namespace
        };
        Ok(json!({"resourceAttributes": {
            "namespace": namespace, "verb": verb, "group": group, "resource": resource,
            "subresource": self.subresource, "name": name,
        }}))
    }

    async fn list(&self, session: &mut Session) -> Result<()> {
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
                          "spec": {"namespace": session.namespace}});
        let answer = review(
            &format!("{AUTHORIZATION}/selfsubjectrulesreviews"),
            &body,
            session,
        )
        .await?;
        let status = &answer["status"];
        if status["incomplete"] == true {
            let why = status["evaluationError"].as_str().unwrap_or_default();
            session.warn(format!("Warning: the list may be incomplete: {why}"));
        }
        let mut lines = Vec::new();
        if !self.no_headers {
            lines.push("Resources\tNon-Resource URLs\tResource Names\tVerbs".to_owned());
        }
        let rules = status["resourceRules"].as_array().into_iter().flatten();
        let mut rows: Vec<String> = rules.flat_map(resource_rows).collect();
        let rules = status["nonResourceRules"].as_array().into_iter().flatten();
        rows.extend(rules.map(|rule| {
            format!(
                "\t{}\t[]\t{}",
                words(&rule["nonResourceURLs"]),
                words(&rule["verbs"])
            )
        }));
        rows.dedup();
        lines.extend(rows);
        session.print(align(&lines.join("\n"), TABLE))
    }
}

fn in_group(group: &str) -> String {
    if group.is_empty() {
        String::new()
    } else {
        format!(" in group '{group}'")
    }
}

/// One line for each resource of each group of a rule.
fn resource_rows(rule: &Value) -> Vec<String> {
    let texts = |field: &str| -> Vec<String> {
        let values = rule[field].as_array().into_iter().flatten();
        values
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let mut rows = Vec::new();
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            let name = match (group.as_str(), resource.split_once('/')) {
                ("", _) => resource,
                (group, Some((resource, subresource))) => {
                    format!("{resource}.{group}/{subresource}")
                }
                (group, None) => format!("{resource}.{group}"),
            };
            rows.push(format!(
                "{name}\t[]\t{}\t{}",
                words(&rule["resourceNames"]),
                words(&rule["verbs"])
            ));
        }
    }
    rows
}

/// `[get list]`.
fn words(value: &Value) -> String {
    let words = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    format!("[{}]", words.collect::<Vec<_>>().join(" "))
}

impl WhoamiCommand {
    async fn run(self, session: &mut Session) -> Result<()> {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let answer = review(
            &format!("{AUTHENTICATION}/selfsubjectreviews"),
            &body,
            session,
        )
        .await?;
        let output = Output::parse(self.output.as_deref())?;
        if !output.is_table() {
            return session.print(render(&output, &answer, ""));
        }
        let user = &answer["status"]["userInfo"];
        let mut text = format!(
            "ATTRIBUTE\tVALUE\nUsername\t{}\n",
            user["username"].as_str().unwrap_or_default()
        );
        if let Some(uid) = user["uid"].as_str().filter(|uid| !uid.is_empty()) {
            text.push_str(&format!("UID\t{uid}\n"));
        }
        text.push_str(&format!("Groups\t{}\n", words(&user["groups"])));
        for (key, value) in user["extra"].as_object().into_iter().flatten() {
            text.push_str(&format!("Extra: {key}\t{}\n", words(value)));
        }
        session.print(align(&text, TABLE))
    }
}
