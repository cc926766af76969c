//! The objects a command that changes some works on, read from the server: by name, file or selector.

use clap::Args;
use kube_client::{JSON, Method, object_path, with_query};
use serde_json::Value;

use crate::apply::DryRun;
use crate::arguments::{Selectors, targets};
use crate::catalogue::ResourceKind;
use crate::error::{Error, Result};
use crate::manifest::{self, Files};
use crate::session::{PLAIN, Session};

#[derive(Args)]
pub(crate) struct Choice {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) selectors: Selectors,
    /// All objects of the kinds
    #[arg(long)]
    pub(crate) all: bool,
    /// In all namespaces
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
}

/// An object as it is on the server.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) kind: ResourceKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) object: Value,
}

impl Found {
    pub(crate) fn label(&self) -> String {
        self.kind.label(&self.name)
    }

    pub(crate) fn path(&self, subresource: &str) -> String {
        object_path(
            &self.kind.resource,
            Some(&self.namespace),
            &self.name,
            subresource,
        )
    }

    /// Sends a patch by kubectl's own field manager.
    pub(crate) async fn patch(
        &self,
        content_type: &'static str,
        patch: &Value,
        how: (DryRun, &str),
        session: &mut Session,
    ) -> Result<Value> {
        let (dry_run, manager) = how;
        let path = with_query(self.path(""), "fieldManager", manager);
        let path = with_query(path, "dryRun", dry_run.query());
        Ok(session
            .call(
                Method::Patch,
                path,
                content_type,
                patch.to_string().into_bytes(),
            )
            .await?)
    }
}

pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

impl Choice {
    /// Reads what was chosen; objects that are missing are errors, told after the others were read.
    pub(crate) async fn read(
        &self,
        arguments: &[String],
        errors: &mut Vec<Error>,
        session: &mut Session,
    ) -> Result<Vec<Found>> {
        let catalogue = session.catalogue().await?;
        let mut named: Vec<(ResourceKind, String, String)> = Vec::new();
        let mut found = Vec::new();
        if self.files.is_empty() {
            for target in targets(arguments, &catalogue)? {
                match target.name {
                    Some(_) if self.all || !self.selectors.is_everything() => {
                        return Err(Error::usage(
                            "name cannot be provided when a selector is specified",
                        ));
                    }
                    Some(name) => named.push((target.kind, session.namespace.clone(), name)),
                    None if self.all || !self.selectors.is_everything() => {
                        found.extend(self.list(&target.kind, session).await?);
                    }
                    None => {
                        return Err(Error::usage(
                            "resource(s) were provided, but no name was specified",
                        ));
                    }
                }
            }
        } else {
            for manifest in self.files.read()? {
                let kind = catalogue.of_object(&manifest.object)?.clone();
                let namespace = manifest::namespace(&manifest.object, &session.namespace, false)?;
                named.push((kind, namespace, manifest.object.name().to_owned()));
            }
        }
        for (kind, namespace, name) in named {
            let namespace = kind.namespace(&namespace).to_owned();
            let path = object_path(&kind.resource, Some(&namespace), &name, "");
            match session.get(path, PLAIN).await {
                Ok(object) => found.push(Found {
                    kind,
                    namespace,
                    name,
                    object,
                }),
                Err(error) => errors.push(error.into()),
            }
        }
        Ok(found)
    }

    async fn list(&self, kind: &ResourceKind, session: &Session) -> Result<Vec<Found>> {
        let namespace = if self.all_namespaces {
            ""
        } else {
            kind.namespace(&session.namespace)
        };
        let api = session.client.dynamic(kind.resource.clone(), namespace);
        let list = api
            .list(&self.selectors.labels, &self.selectors.fields)
            .await?;
        let mut found = Vec::new();
        for item in &list.items {
            let object = item
                .to_object()
                .map_err(|error| Error::usage(error.to_string()))?;
            found.push(Found {
                kind: kind.clone(),
                namespace: object.namespace().to_owned(),
                name: object.name().to_owned(),
                object: object.into_value(),
            });
        }
        Ok(found)
    }
}

/// `POST` of a review: an object that is answered and not kept.
pub(crate) async fn review(path: &str, review: &Value, session: &mut Session) -> Result<Value> {
    Ok(session
        .call(
            Method::Post,
            path.to_owned(),
            JSON,
            review.to_string().into_bytes(),
        )
        .await?)
}
