//! `delete`: objects by name, file or selector; waits until they are gone unless told not to.

use std::time::Duration;

use clap::Args;
use kube_client::{ClientError, DeleteOptions, Propagation, WatchEvent, WatchRequest, with_query};
use kube_client::{Method, object_path};
use serde_json::{Value, json};

use crate::apply::DryRun;
use crate::arguments::{Selectors, Target, targets};
use crate::catalogue::ResourceKind;
use crate::error::{Error, Result};
use crate::manifest::{self, Files};
use crate::output::Output;
use crate::session::Session;
use crate::times;

#[derive(Args)]
pub(crate) struct DeleteCommand {
    /// TYPE[,TYPE] [NAME...], or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// All objects of the kinds
    #[arg(long)]
    all: bool,
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// What happens to dependents: background, foreground or orphan
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background", value_name = "HOW")]
    cascade: String,
    /// Seconds a pod is given to end; -1 leaves that to the pod
    #[arg(long, default_value_t = -1, allow_hyphen_values = true, value_name = "SECONDS")]
    grace_period: i64,
    /// At once, with a grace period of 1 second
    #[arg(long)]
    now: bool,
    /// Do not wait for the node to confirm; with a grace period of 0
    #[arg(long)]
    force: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    wait: bool,
    /// The longest wait; 0 has no end
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    timeout: String,
    /// Objects that are missing are no failure
    #[arg(long)]
    ignore_not_found: bool,
    /// none, client or server
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_name = "WHERE")]
    dry_run: String,
    /// name
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
}

/// One object to delete.
#[derive(Clone, Debug)]
struct Victim {
    kind: ResourceKind,
    namespace: String,
    name: String,
}

/// What was deleted and has to go yet.
struct Going {
    victim: Victim,
    uid: String,
}

impl DeleteCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let output = Output::parse(self.output.as_deref())?;
        if !matches!(output, Output::Human | Output::Name) {
            return Err(Error::usage(
                "unexpected -o output mode: only 'name' is supported",
            ));
        }
        let dry_run = DryRun::parse(&self.dry_run)?;
        let options = self.options()?;
        let grace = options.grace_period_seconds;
        if self.force && grace == Some(0) {
            session.warn(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been \
                 terminated. The resource may continue to run on the cluster indefinitely.",
            );
        }
        let mut errors = Vec::new();
        let victims = self.victims(&mut errors, session).await?;
        if victims.is_empty() && errors.is_empty() {
            if !self.ignore_not_found {
                session.warn("No resources found");
            }
            return Ok(());
        }
        let mut going = Vec::new();
        for victim in victims {
            match delete(&victim, &options, dry_run, session).await {
                Ok(uid) => {
                    say(&victim, grace == Some(0), dry_run, &output, session)?;
                    going.extend(uid.map(|uid| Going { victim, uid }));
                }
                Err(error) if error.is_not_found() && (self.ignore_not_found || self.all) => {}
                Err(error) => errors.push(error.into()),
            }
        }
        if self.wait && dry_run == DryRun::No {
            let limit = times::parse_duration(&self.timeout)?;
            for object in going {
                if let Err(error) = gone(&object, limit, session).await {
                    errors.push(error);
                }
            }
        }
        Error::all(errors)
    }

    fn options(&self) -> Result<DeleteOptions> {
        if self.now && self.grace_period >= 0 {
            return Err(Error::usage(
                "--now and --grace-period cannot be specified together",
            ));
        }
        if self.force && self.grace_period > 0 {
            return Err(Error::usage(
                "--force and --grace-period greater than 0 cannot be specified together",
            ));
        }
        match (self.now, self.force, self.grace_period) {
            (true, ..) => self.with_grace(1),
            (false, true, _) => self.with_grace(0),
            // Nothing is lost by mistake: an immediate deletion has to be forced.
            (false, false, 0) => self.with_grace(1),
            (false, false, seconds) => self.with_grace(seconds),
        }
    }

    fn with_grace(&self, seconds: i64) -> Result<DeleteOptions> {
        let propagation = match self.cascade.as_str() {
            "background" | "true" => Propagation::Background,
            "foreground" => Propagation::Foreground,
            "orphan" | "false" => Propagation::Orphan,
            other => {
                return Err(Error::usage(format!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
                )));
            }
        };
        Ok(DeleteOptions {
            grace_period_seconds: (seconds >= 0).then_some(seconds),
            propagation: Some(propagation),
            ..DeleteOptions::default()
        })
    }

    async fn victims(&self, errors: &mut Vec<Error>, session: &mut Session) -> Result<Vec<Victim>> {
        let catalogue = session.catalogue().await?;
        let mut victims = Vec::new();
        if !self.files.is_empty() {
            for manifest in self.files.read()? {
                let namespace = manifest::namespace(&manifest.object, &session.namespace, false)?;
                match catalogue.of_object(&manifest.object) {
                    Ok(kind) => victims.push(Victim {
                        kind: kind.clone(),
                        namespace: kind.namespace(&namespace).to_owned(),
                        name: manifest.object.name().to_owned(),
                    }),
                    Err(error) if !self.ignore_not_found => errors.push(error),
                    Err(_) => {}
                }
            }
            return Ok(victims);
        }
        for target in targets(&self.arguments, &catalogue)? {
            match &target.name {
                Some(_) if self.all || !self.selectors.is_everything() => {
                    return Err(Error::usage(
                        "name cannot be provided when a selector is specified",
                    ));
                }
                Some(name) => victims.push(Victim {
                    namespace: target.kind.namespace(&session.namespace).to_owned(),
                    name: name.clone(),
                    kind: target.kind,
                }),
                None if self.all || !self.selectors.is_everything() => {
                    victims.extend(self.chosen(&target, session).await?);
                }
                None => {
                    return Err(Error::usage(
                        "resource(s) were provided, but no name was specified",
                    ));
                }
            }
        }
        Ok(victims)
    }

    async fn chosen(&self, target: &Target, session: &Session) -> Result<Vec<Victim>, ClientError> {
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
        let found = list.items.iter().map(|item| Victim {
            kind: target.kind.clone(),
            namespace: item.key().namespace.clone(),
            name: item.key().name.clone(),
        });
        Ok(found.collect())
    }
}

/// Deletes; gives the uid of what was deleted, if the answer tells it.
async fn delete(
    victim: &Victim,
    options: &DeleteOptions,
    dry_run: DryRun,
    session: &mut Session,
) -> Result<Option<String>, ClientError> {
    let path = object_path(
        &victim.kind.resource,
        Some(&victim.namespace),
        &victim.name,
        "",
    );
    if dry_run == DryRun::Client {
        session.get(path, crate::session::PLAIN).await?;
        return Ok(None);
    }
    let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(propagation) = options.propagation {
        body["propagationPolicy"] = propagation.as_str().into();
    }
    let path = with_query(path, "dryRun", dry_run.query());
    let body = body.to_string().into_bytes();
    let answer = session
        .call(Method::Delete, path, kube_client::JSON, body)
        .await?;
    let uid = |value: &Value| value["uid"].as_str().map(str::to_owned);
    Ok(uid(&answer["metadata"]).or_else(|| uid(&answer["details"])))
}

fn say(
    victim: &Victim,
    is_forced: bool,
    dry_run: DryRun,
    output: &Output,
    session: &mut Session,
) -> Result<()> {
    if *output == Output::Name {
        return session.say(victim.kind.label(&victim.name));
    }
    let operation = if is_forced {
        "force deleted"
    } else {
        "deleted"
    };
    let place = match victim.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" from {namespace} namespace"),
    };
    session.say(format!(
        "{} {:?} {operation}{place}{}",
        victim.kind.qualified_kind(),
        victim.name,
        dry_run.suffix()
    ))
}

/// Returns when no object with that uid has the name any more; `limit` zero waits without end.
async fn gone(object: &Going, limit: Duration, session: &Session) -> Result<()> {
    let waiting = wait_until_gone(object, session);
    if limit.is_zero() {
        return waiting.await;
    }
    env::timeout(limit, waiting).await.map_err(|_| {
        let victim = &object.victim;
        Error::usage(format!(
            "timed out waiting for the condition on {}/{}",
            victim.kind.resource.resource, victim.name
        ))
    })?
}

async fn wait_until_gone(object: &Going, session: &Session) -> Result<()> {
    let victim = &object.victim;
    let api = session
        .client
        .dynamic(victim.kind.resource.clone(), &victim.namespace);
    let field = format!("metadata.name={}", victim.name);
    loop {
        let list = match api.list("", &field).await {
            Ok(list) => list,
            // The kind itself, or the right to see it, went with the object.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !list.items.iter().any(|item| item.index.uid == object.uid) {
            return Ok(());
        }
        let watch = WatchRequest {
            list: api.list_request("", &field),
            after_revision: list.revision,
        };
        let mut events = session.client.watch(watch).await?;
        while let Some(event) = events.recv().await {
            match event {
                WatchEvent::Deleted(_) | WatchEvent::Error(_) => break,
                WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Bookmark(_) => {}
            }
        }
    }
}
