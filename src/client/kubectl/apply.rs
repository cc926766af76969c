//! `apply`: every object of the files by server-side apply. The managed fields are the only memory of what was applied.

use clap::Args;
use kube_client::{ClientError, Method, object_path, with_query};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::manifest::{self, Files, Manifest};
use crate::output::{self, Output};
use crate::session::{FIELD_MANAGER, PLAIN, Session};

#[derive(Args)]
#[command(
    long_about = "Make objects as files say.\n\nThis is always server-side apply by the field manager `kubectl` (or \
                  another by --field-manager): no last-applied annotation is written or read, and a conflict with \
                  another manager is told by the server."
)]
pub(crate) struct ApplyCommand {
    #[command(flatten)]
    files: Files,
    /// Nothing to choose: apply is always server-side
    #[arg(long)]
    server_side: bool,
    /// Take fields from other managers
    #[arg(long)]
    force_conflicts: bool,
    /// Whose fields these are
    #[arg(long, default_value = FIELD_MANAGER, value_name = "NAME")]
    field_manager: String,
    /// none, or server: judged but not kept
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_name = "WHERE")]
    dry_run: String,
    /// How unknown fields are met: strict, warn or ignore
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict", value_name = "LEVEL")]
    validate: String,
    /// json|yaml|name|jsonpath=...
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
    /// Only objects with these labels
    #[arg(
        long,
        short = 'l',
        default_value = "",
        hide_default_value = true,
        value_name = "SELECTOR"
    )]
    selector: String,
    /// Refused: pruning is not built in
    #[arg(long)]
    prune: bool,
    /// Wait until pruned objects are gone; nothing is pruned
    #[arg(long, hide = true)]
    wait: bool,
}

/// Where a write is only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DryRun {
    No,
    Client,
    Server,
}

impl DryRun {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "none" | "false" => Ok(Self::No),
            "client" | "true" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            other => Err(Error::usage(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            ))),
        }
    }

    /// The value of the query parameter `dryRun`.
    pub(crate) fn query(self) -> &'static str {
        match self {
            Self::Server => "All",
            Self::No | Self::Client => "",
        }
    }

    /// What a message ends with.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// The query parameter `fieldValidation`.
pub(crate) fn field_validation(text: &str) -> Result<&'static str> {
    match text.to_lowercase().as_str() {
        "true" | "strict" => Ok("Strict"),
        "warn" => Ok("Warn"),
        "false" | "ignore" => Ok("Ignore"),
        _ => Err(Error::usage(format!(
            "invalid - validate option {text:?}; must be one of: strict (or true), warn, ignore (or false)"
        ))),
    }
}

impl ApplyCommand {
    pub(crate) async fn run(self, names_namespace: bool, session: &mut Session) -> Result<()> {
        if self.prune {
            return Err(Error::usage(
                "--prune is not built in: delete what is no longer wanted by name or label",
            ));
        }
        if self.files.is_empty() {
            return Err(Error::usage("must specify one of -f and -k"));
        }
        let dry_run = match DryRun::parse(&self.dry_run)? {
            DryRun::Client => {
                return Err(Error::usage(
                    "apply is always server-side: use --dry-run=server",
                ));
            }
            dry_run => dry_run,
        };
        let output = Output::parse(self.output.as_deref())?;
        let selector = apimachinery::LabelSelector::parse(&self.selector)
            .map_err(|error| Error::usage(error.to_string()))?;
        let mut errors = Vec::new();
        let mut applied = Vec::new();
        for manifest in self.files.read()? {
            if !selector.matches_with(|key| manifest.object.label(key)) {
                continue;
            }
            match self
                .apply(manifest, names_namespace, dry_run, &output, session)
                .await
            {
                Ok(object) => applied.push(object),
                Err(error) => errors.push(error),
            }
        }
        if !output.is_table() && output != Output::Name && !applied.is_empty() {
            let value = if applied.len() == 1 {
                applied.remove(0)
            } else {
                output::list(applied)
            };
            session.print(output::render(&output, &value, ""))?;
        }
        Error::all(errors)
    }

    async fn apply(
        &self,
        manifest: Manifest,
        names_namespace: bool,
        dry_run: DryRun,
        output: &Output,
        session: &mut Session,
    ) -> Result<Value> {
        let catalogue = session.catalogue().await?;
        let Manifest { object, origin } = manifest;
        let kind = catalogue.of_object(&object)?;
        let namespace = manifest::namespace(&object, &session.namespace, names_namespace)?;
        let namespace = kind.namespace(&namespace);
        if object.name().is_empty() {
            return Err(Error::usage(format!(
                "error when applying {origin:?}: metadata.name is required: generateName cannot be used with apply"
            )));
        }
        let path = object_path(&kind.resource, Some(namespace), object.name(), "");
        let before = match session.get(path.clone(), PLAIN).await {
            Ok(before) => Some(before),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let path = with_query(path, "fieldManager", &self.field_manager);
        let path = with_query(path, "fieldValidation", field_validation(&self.validate)?);
        let path = with_query(
            path,
            "force",
            if self.force_conflicts { "true" } else { "" },
        );
        let path = with_query(path, "dryRun", dry_run.query());
        let mut object = object;
        if kind.is_namespaced {
            object.set_metadata_text("namespace", namespace);
        }
        let body = object.clone().into_value().to_string().into_bytes();
        let after = session
            .call(Method::Patch, path, "application/apply-patch+yaml", body)
            .await;
        let after = after.map_err(|error| failure(error, &origin))?;
        if output.is_table() {
            let done = what_happened(&self.field_manager, before.as_ref(), &after);
            session.say(format!(
                "{} {done}{}",
                kind.label(object.name()),
                dry_run.suffix()
            ))?;
        } else if *output == Output::Name {
            session.say(kind.label(object.name()))?;
        }
        Ok(output::shown(after))
    }
}

/// Only what the manager may have changed counts: controllers write the status and annotations of theirs between our two looks.
fn what_happened(manager: &str, before: Option<&Value>, after: &Value) -> &'static str {
    match before {
        None => "created",
        Some(before) if applied_part(manager, before) == applied_part(manager, after) => {
            "unchanged"
        }
        Some(_) => "configured",
    }
}

fn applied_part(manager: &str, object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array();
    let ours = entries.into_iter().flatten().find(|entry| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry["subresource"].is_null()
    });
    let annotations = ours.map_or(
        &Value::Null,
        |entry| &entry["fieldsV1"]["f:metadata"]["f:annotations"],
    );
    let mut part = output::shown(object.clone());
    if let Some(fields) = part.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = part["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        if let Some(Value::Object(all)) = metadata.get_mut("annotations") {
            all.retain(|key, _| annotations.get(format!("f:{key}")).is_some());
        }
        if metadata.get("annotations") == Some(&Value::Object(Default::default())) {
            metadata.remove("annotations");
        }
    }
    part
}

/// A conflict comes with the advice people need to resolve it.
fn failure(error: ClientError, origin: &str) -> Error {
    match error.api() {
        Some(api) if api.is_conflict() => {
            let causes: Vec<String> = api
                .details
                .iter()
                .flat_map(|details| &details.causes)
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect();
            Error::Plain(format!(
                "error: Apply failed with {} conflict{}: {}\nPlease review the fields above--they currently have other \
                 managers. Here\nare the ways you can resolve this warning:\n* If you intend to manage all of these \
                 fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n* If you do not intend \
                 to manage all of the fields, please edit your\n  manifest to remove references to the fields that \
                 should keep their\n  current managers.\n* You may co-own fields by updating your manifest to match \
                 the existing\n  value; in this case, you'll become the manager if the other manager(s)\n  stop \
                 managing the field (remove it from their configuration).\nSee \
                 https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
                causes.len(),
                if causes.len() == 1 { "" } else { "s" },
                api.message
                    .split_once(": ")
                    .map_or(api.message.as_str(), |(_, rest)| rest)
            ))
        }
        _ => Error::Source {
            origin: format!("applying {origin:?}"),
            source: error,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(version: &str) -> Value {
        json!({
            "metadata": {
                "name": "a",
                "resourceVersion": version,
                "annotations": {"ours": "1"},
                "managedFields": [{
                    "manager": "kubectl",
                    "operation": "Apply",
                    "time": version,
                    "fieldsV1": {"f:metadata": {"f:annotations": {"f:ours": {}}}},
                }],
            },
            "spec": {"replicas": 1},
        })
    }

    #[test]
    fn what_controllers_write_in_between_is_no_change_of_ours() {
        let before = deployment("1");
        let with = |path: [&str; 3], value: Value| {
            let mut after = deployment("2");
            after[path[0]][path[1]][path[2]] = value;
            what_happened("kubectl", Some(&before), &after)
        };
        assert_eq!(what_happened("kubectl", None, &before), "created");
        let same = what_happened("kubectl", Some(&before), &deployment("2"));
        assert_eq!(same, "unchanged");
        assert_eq!(with(["status", "conditions", "x"], json!(1)), "unchanged");
        let annotation = |name| with(["metadata", "annotations", name], json!("2"));
        assert_eq!(annotation("theirs"), "unchanged");
        assert_eq!(annotation("ours"), "configured");
        assert_eq!(with(["spec", "template", "x"], json!(1)), "configured");
    }
}
