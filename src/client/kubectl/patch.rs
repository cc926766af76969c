//! `patch`: a change of fields in one of the API's patch languages.

use clap::Args;
use kube_client::{Method, with_query};

use crate::apply::DryRun;
use crate::error::{Error, Result};
use crate::manifest;
use crate::objects::{Choice, JSON_PATCH, MERGE, STRATEGIC};
use crate::output::{self, Output};
use crate::session::Session;

#[derive(Args)]
pub(crate) struct PatchCommand {
    /// TYPE NAME, or TYPE/NAME
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// The patch, as JSON or YAML
    #[arg(long, short = 'p', value_name = "PATCH")]
    patch: Option<String>,
    /// A file with the patch
    #[arg(long, value_name = "FILE")]
    patch_file: Option<String>,
    /// strategic, merge or json
    #[arg(long = "type", default_value = "strategic", value_name = "LANGUAGE")]
    language: String,
    /// Status, scale or another subresource
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    subresource: String,
    /// none or server
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_name = "WHERE")]
    dry_run: String,
    /// Whose fields these are
    #[arg(long, default_value = "kubectl-patch", value_name = "NAME")]
    field_manager: String,
    /// json|yaml|name
    #[arg(long, short = 'o', value_name = "FORM")]
    output: Option<String>,
}

impl PatchCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let output = Output::parse(self.output.as_deref())?;
        let dry_run = DryRun::parse(&self.dry_run)?;
        if dry_run == DryRun::Client {
            return Err(Error::usage(
                "patches are applied by the server: use --dry-run=server",
            ));
        }
        let content_type = match self.language.as_str() {
            "strategic" => STRATEGIC,
            "merge" => MERGE,
            "json" => JSON_PATCH,
            other => {
                return Err(Error::usage(format!(
                    "--type must be one of [json merge strategic], not {other:?}"
                )));
            }
        };
        let body = self.read()?;
        let mut errors = Vec::new();
        for found in self
            .choice
            .read(&self.arguments, &mut errors, session)
            .await?
        {
            let path = with_query(
                found.path(&self.subresource),
                "fieldManager",
                &self.field_manager,
            );
            let path = with_query(path, "dryRun", dry_run.query());
            match session
                .call(Method::Patch, path, content_type, body.clone())
                .await
            {
                Ok(object) => {
                    let versions = [&found.object, &object]
                        .map(|object| object["metadata"]["resourceVersion"].clone());
                    let done = if versions[0] == versions[1] {
                        "patched (no change)"
                    } else {
                        "patched"
                    };
                    let done = format!("{done}{}", dry_run.suffix());
                    session.print(output::changed(&output, &found.kind, &object, &done))?;
                }
                Err(error) => errors.push(error.into()),
            }
        }
        Error::all(errors)
    }

    fn read(&self) -> Result<Vec<u8>> {
        let text = match (&self.patch, &self.patch_file) {
            (Some(patch), None) => patch.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map_err(|error| Error::usage(format!("unable to read {file}: {error}")))?,
            _ => {
                return Err(Error::usage(
                    "must specify exactly one of --patch or --patch-file",
                ));
            }
        };
        let tree = manifest::tree(&text);
        let tree = tree.map_err(|why| Error::usage(format!("unable to parse {text:?}: {why}")))?;
        Ok(tree.to_string().into_bytes())
    }
}
