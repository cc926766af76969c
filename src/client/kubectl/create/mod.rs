//! `create`: objects from files, or from arguments for the kinds people make by hand.

mod config_map;
mod deployment;
mod job;
mod roles;
mod secret;
mod sources;
mod token;

use apimachinery::{ApiError, Object, Reason};
use clap::{Args, Subcommand};
use kube_client::{ClientError, JSON, Method, collection_path, with_query};
use serde_json::{Value, json};

use crate::apply::{DryRun, field_validation};
use crate::error::{Error, Result};
use crate::manifest::{self, Files, Manifest};
use crate::output::{self, Output};
use crate::session::{FIELD_MANAGER, Session};

/// Whose fields are those of what `create` makes.
const CREATOR: &str = "kubectl-create";

#[derive(Args)]
pub(crate) struct CreateCommand {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    kind: Option<CreateKind>,
}

/// What every form of `create` takes, before or after the word for the kind.
#[derive(Args, Clone)]
pub(crate) struct How {
    /// none, client: only printed, or server: judged but not kept
    #[arg(long, global = true, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_name = "WHERE")]
    dry_run: String,
    /// json|yaml|name|jsonpath=...
    #[arg(long, short = 'o', global = true, value_name = "FORM")]
    output: Option<String>,
    /// How unknown fields are met: strict, warn or ignore
    #[arg(long, global = true, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict", value_name = "LEVEL")]
    validate: String,
    /// Whose fields these are
    #[arg(long, global = true, default_value = CREATOR, value_name = "NAME")]
    field_manager: String,
}

impl How {
    /// Whether nothing but the form of the output is told.
    fn only_names_output(&self) -> bool {
        (&*self.dry_run, &*self.validate, &*self.field_manager) == ("none", "strict", CREATOR)
    }
}

#[derive(Subcommand)]
enum CreateKind {
    /// A namespace
    #[command(alias = "ns")]
    Namespace(Named),
    /// A service account
    #[command(name = "serviceaccount", alias = "sa")]
    ServiceAccount(Named),
    /// A config map from files and literals
    #[command(name = "configmap", alias = "cm")]
    ConfigMap(config_map::ConfigMap),
    /// A secret from files and literals
    #[command(subcommand)]
    Secret(secret::Secret),
    /// A deployment of an image
    #[command(alias = "deploy")]
    Deployment(deployment::Deployment),
    /// A job of an image
    Job(job::Job),
    /// A role
    Role(roles::Role),
    /// A cluster role
    #[command(name = "clusterrole")]
    ClusterRole(roles::ClusterRole),
    /// A binding of a role
    #[command(name = "rolebinding")]
    RoleBinding(roles::RoleBinding),
    /// A binding of a cluster role
    #[command(name = "clusterrolebinding")]
    ClusterRoleBinding(roles::ClusterRoleBinding),
    /// A token of a service account
    Token(token::Token),
}

/// A kind of which only the name is told.
#[derive(Args)]
struct Named {
    name: String,
}

impl CreateCommand {
    pub(crate) async fn run(self, names_namespace: bool, session: &mut Session) -> Result<()> {
        let Some(kind) = self.kind else {
            if self.files.is_empty() {
                return Err(Error::usage("must specify one of -f and -k"));
            }
            return from_files(&self.files, &self.how, names_namespace, session).await;
        };
        if !self.files.is_empty() {
            return Err(Error::usage(
                "-f and -k name objects in files: a kind and a name cannot be told as well",
            ));
        }
        let how = self.how;
        let object = match kind {
            CreateKind::Token(token) => return token.run(&how, session).await,
            CreateKind::Namespace(named) => plain("Namespace", &named.name),
            CreateKind::ServiceAccount(named) => plain("ServiceAccount", &named.name),
            CreateKind::ConfigMap(command) => command.object()?,
            CreateKind::Secret(command) => command.object()?,
            CreateKind::Deployment(command) => command.object()?,
            CreateKind::Job(command) => command.object(session).await?,
            CreateKind::Role(command) => {
                let catalogue = session.catalogue().await?;
                command.object(&catalogue)?
            }
            CreateKind::ClusterRole(command) => {
                let catalogue = session.catalogue().await?;
                command.object(&catalogue)?
            }
            CreateKind::RoleBinding(command) => command.object()?,
            CreateKind::ClusterRoleBinding(command) => command.object()?,
        };
        let object = Object::from_value(object).expect("what is made here is an object");
        let kind = object.kind().to_owned();
        let manifest = Manifest {
            object,
            origin: "arguments".to_owned(),
        };
        create(manifest, &how, names_namespace, session)
            .await
            .map_err(|error| match error {
                Error::Source {
                    source: ClientError::Api(error),
                    ..
                } => said_plainly(&kind, error),
                other => other,
            })
    }
}

/// What the server refused did not come from a file: kubectl names the command instead.
fn said_plainly(kind: &str, error: ApiError) -> Error {
    match error.reason {
        Reason::Invalid => error.into(),
        _ if matches!(kind, "Namespace" | "Role" | "ClusterRole") => error.into(),
        _ => Error::Plain(format!(
            "error: failed to create {}: {}",
            kind.to_lowercase(),
            error.message
        )),
    }
}

fn plain(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
}

async fn from_files(
    files: &Files,
    how: &How,
    names_namespace: bool,
    session: &mut Session,
) -> Result<()> {
    let mut errors = Vec::new();
    for manifest in files.read()? {
        if let Err(error) = create(manifest, how, names_namespace, session).await {
            errors.push(error);
        }
    }
    Error::all(errors)
}

async fn create(
    manifest: Manifest,
    how: &How,
    names_namespace: bool,
    session: &mut Session,
) -> Result<()> {
    let dry_run = DryRun::parse(&how.dry_run)?;
    let output = Output::parse(how.output.as_deref())?;
    let catalogue = session.catalogue().await?;
    let Manifest { mut object, origin } = manifest;
    let kind = catalogue.of_object(&object)?;
    let namespace = manifest::namespace(&object, &session.namespace, names_namespace)?;
    let namespace = kind.namespace(&namespace);
    // What is only printed names a namespace only if that was said.
    if kind.is_namespaced && (dry_run != DryRun::Client || names_namespace) {
        object.set_metadata_text("namespace", namespace);
    }
    let answer = if dry_run == DryRun::Client {
        object.into_value()
    } else {
        let manager = if how.field_manager.is_empty() {
            FIELD_MANAGER
        } else {
            &how.field_manager
        };
        let path = collection_path(&kind.resource, Some(namespace));
        let path = with_query(path, "fieldManager", manager);
        let path = with_query(path, "fieldValidation", field_validation(&how.validate)?);
        let path = with_query(path, "dryRun", dry_run.query());
        let body = object.into_value().to_string().into_bytes();
        let answer = session.call(Method::Post, path, JSON, body).await;
        answer.map_err(|source| Error::Source {
            origin: format!("creating {origin:?}"),
            source,
        })?
    };
    let done = format!("created{}", dry_run.suffix());
    session.print(output::changed(&output, kind, &answer, &done))
}
