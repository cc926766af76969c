//! `scale`: the number of replicas, through the scale subresource.

use std::time::Duration;

use clap::Args;
use kube_client::{JSON, Method, with_query};
use serde_json::Value;

use crate::apply::DryRun;
use crate::error::{Error, Result};
use crate::objects::{Choice, Found};
use crate::output::{self, Output};
use crate::session::{FIELD_MANAGER, PLAIN, Session};
use crate::times;
use crate::wait::until;

#[derive(Args)]
pub(crate) struct ScaleCommand {
    /// TYPE NAME..., or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// The number wanted
    #[arg(long, value_name = "COUNT")]
    replicas: u32,
    /// Only if so many are wanted now
    #[arg(long, value_name = "COUNT")]
    current_replicas: Option<i64>,
    /// Only if the object has this version
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "VERSION"
    )]
    resource_version: String,
    /// Wait so long until the replicas are there; 0 does not wait
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    timeout: String,
    /// none, client or server
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_name = "WHERE")]
    dry_run: String,
    /// json|yaml|name
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
}

impl ScaleCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let output = Output::parse(self.output.as_deref())?;
        let dry_run = DryRun::parse(&self.dry_run)?;
        let limit = times::parse_duration(&self.timeout)?;
        let mut errors = Vec::new();
        for found in self
            .choice
            .read(&self.arguments, &mut errors, session)
            .await?
        {
            if !found.kind.is_scalable {
                errors.push(Error::usage(format!(
                    "cannot scale {}: it has no scale",
                    found.label()
                )));
                continue;
            }
            if dry_run != DryRun::Client
                && let Err(error) = self.scale(&found, dry_run, session).await
            {
                errors.push(error);
                continue;
            }
            let done = format!("scaled{}", dry_run.suffix());
            let text = output::changed(&output, &found.kind, &found.object, &done);
            session.print(text)?;
            if !limit.is_zero() && dry_run == DryRun::No {
                self.wait(&found, limit, session).await?;
            }
        }
        Error::all(errors)
    }

    async fn scale(&self, found: &Found, dry_run: DryRun, session: &mut Session) -> Result<()> {
        let mut scale = session.get(found.path("scale"), PLAIN).await?;
        let current = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if let Some(expected) = self
            .current_replicas
            .filter(|expected| *expected != current)
        {
            return Err(Error::usage(format!(
                "Expected replicas to be {expected}, was {current}"
            )));
        }
        if !self.resource_version.is_empty() {
            scale["metadata"]["resourceVersion"] = self.resource_version.clone().into();
        } else if let (None, Some(metadata)) =
            (self.current_replicas, scale["metadata"].as_object_mut())
        {
            // Whoever set no condition overwrites whatever there is.
            metadata.remove("resourceVersion");
        }
        scale["spec"]["replicas"] = self.replicas.into();
        let path = with_query(found.path("scale"), "fieldManager", FIELD_MANAGER);
        let path = with_query(path, "dryRun", dry_run.query());
        session
            .call(Method::Put, path, JSON, scale.to_string().into_bytes())
            .await?;
        Ok(())
    }

    async fn wait(&self, found: &Found, limit: Duration, session: &Session) -> Result<()> {
        let api = session
            .client
            .dynamic(found.kind.resource.clone(), &found.namespace);
        let reached = until(&api, &found.name, limit, |object| {
            let replicas = object
                .and_then(|object| object.at(&["status", "replicas"]))
                .and_then(Value::as_u64);
            Ok(replicas.unwrap_or(0) == u64::from(self.replicas))
        });
        reached.await.map(|_object| ())
    }
}
