//! `config`: shows the kubeconfig; secrets in it only when told. It changes nothing.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::manifest::tree;
use crate::output::{Output, render};

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the kubeconfig
    View(ViewCommand),
    /// Show the current context's name
    CurrentContext,
    /// List the contexts' names
    GetContexts(GetContextsCommand),
}

#[derive(Args)]
pub(crate) struct ViewCommand {
    /// With keys, certificates and tokens
    #[arg(long)]
    raw: bool,
    /// yaml|json|jsonpath=...
    #[arg(long, short = 'o', default_value = "yaml", value_name = "FORM")]
    output: String,
}

#[derive(Args)]
pub(crate) struct GetContextsCommand {
    /// name
    #[arg(long, short = 'o', default_value = "name", value_name = "FORM")]
    output: String,
}

impl ConfigCommand {
    pub(crate) fn run(&self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::usage(format!("read {}: {error}", path.display())))?;
        let mut config = tree(&text)
            .map_err(|why| Error::usage(format!("error loading {}: {why}", path.display())))?;
        let text = match self {
            Self::View(command) => {
                let output = Output::parse(Some(&command.output))?;
                if !command.raw {
                    omit_secrets(&mut config);
                }
                render(&output, &config, "")
            }
            Self::CurrentContext => match config["current-context"].as_str() {
                Some(name) if !name.is_empty() => format!("{name}\n"),
                _ => return Err(Error::usage("current-context is not set")),
            },
            Self::GetContexts(command) if command.output == "name" => {
                let contexts = config["contexts"].as_array().into_iter().flatten();
                contexts
                    .filter_map(|context| context["name"].as_str())
                    .map(|name| format!("{name}\n"))
                    .collect()
            }
            Self::GetContexts(command) => {
                return Err(Error::usage(format!(
                    "output must be 'name', not {:?}",
                    command.output
                )));
            }
        };
        print!("{text}");
        Ok(())
    }
}

/// Certificates are omitted, keys and tokens redacted, as kubectl does.
fn omit_secrets(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                match key.as_str() {
                    "certificate-authority-data"
                    | "client-certificate-data"
                    | "client-key-data" => {
                        *value = "DATA+OMITTED".into();
                    }
                    "token" | "password" => *value = "REDACTED".into(),
                    _ => omit_secrets(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(omit_secrets),
        _ => {}
    }
}
