//! `describe`: an object in detail and its events. One file per family of kinds; what has none gets the generic form.

mod configuration;
mod events;
mod generic;
mod node;
mod pod;
mod pod_template;
mod service;
mod text;
mod workload;

use apimachinery::{GroupVersionResource, Object};
use clap::Args;
use env::Timestamp;
use kube_client::{object_path, with_query};
use serde_json::Value;

use crate::arguments::{Selectors, Target, targets};
use crate::error::{Error, Result};
use crate::manifest::{self, Files};
use crate::session::{PLAIN, Session};
use text::Text;

#[derive(Args)]
pub(crate) struct DescribeCommand {
    /// TYPE[,TYPE] [NAME or its beginning...], or TYPE/NAME...
    #[arg(value_name = "TYPE")]
    arguments: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// With events
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    show_events: bool,
    /// Objects in one answer of the server
    #[arg(long, hide = true)]
    chunk_size: Option<u32>,
}

/// An object, and what else its description shows.
struct Subject {
    object: Value,
    /// Objects that belong to it: pods of a node, endpoint slices of a service, replica sets of a deployment.
    related: Vec<Object>,
    events: Option<Vec<Value>>,
    now: Timestamp,
}

impl DescribeCommand {
    pub(crate) async fn run(self, session: &mut Session) -> Result<()> {
        let mut errors = Vec::new();
        let mut descriptions = Vec::new();
        for (target, namespace) in self.targets(session).await? {
            match self.objects(&target, &namespace, session).await {
                Ok(objects) => {
                    for object in objects {
                        descriptions.push(self.describe(&target, object, session).await?);
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        if descriptions.is_empty() && errors.is_empty() {
            session.warn(match self.all_namespaces {
                true => "No resources found".to_owned(),
                false => format!("No resources found in {} namespace.", session.namespace),
            });
        }
        session.print(descriptions.join("\n\n"))?;
        Error::all(errors)
    }

    async fn targets(&self, session: &mut Session) -> Result<Vec<(Target, String)>> {
        let catalogue = session.catalogue().await?;
        if self.files.is_empty() {
            let namespace = if self.all_namespaces {
                String::new()
            } else {
                session.namespace.clone()
            };
            let found = targets(&self.arguments, &catalogue)?;
            return Ok(found
                .into_iter()
                .map(|target| (target, namespace.clone()))
                .collect());
        }
        let mut found = Vec::new();
        for manifest in self.files.read()? {
            let kind = catalogue.of_object(&manifest.object)?.clone();
            let namespace = manifest::namespace(&manifest.object, &session.namespace, false)?;
            found.push((
                Target {
                    kind,
                    name: Some(manifest.object.name().to_owned()),
                },
                namespace,
            ));
        }
        Ok(found)
    }

    /// The object named, or those whose name begins so, or all that the selectors choose.
    async fn objects(
        &self,
        target: &Target,
        namespace: &str,
        session: &mut Session,
    ) -> Result<Vec<Value>> {
        let namespace = target.kind.namespace(namespace);
        let missing = match &target.name {
            None => None,
            Some(name) => {
                let path = object_path(&target.kind.resource, Some(namespace), name, "");
                match session.get(path, PLAIN).await {
                    Ok(object) => return Ok(vec![object]),
                    Err(error) if error.is_not_found() => Some(error),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let api = session
            .client
            .dynamic(target.kind.resource.clone(), namespace);
        let list = api
            .list(&self.selectors.labels, &self.selectors.fields)
            .await?;
        let beginning = target.name.as_deref().unwrap_or_default();
        let mut found = Vec::new();
        for item in list
            .items
            .iter()
            .filter(|item| item.key().name.starts_with(beginning))
        {
            let object = item
                .to_object()
                .map_err(|error| Error::usage(error.to_string()))?;
            found.push(object.into_value());
        }
        match (found.is_empty(), missing) {
            (true, Some(error)) => Err(error.into()),
            _ => Ok(found),
        }
    }

    async fn describe(
        &self,
        target: &Target,
        object: Value,
        session: &mut Session,
    ) -> Result<String> {
        let related = related(target, &object, session).await?;
        let events = if self.show_events && has_events(target) {
            Some(events_of(&object, session).await?)
        } else {
            None
        };
        let subject = Subject {
            object,
            related,
            events,
            now: session.clock.now(),
        };
        Ok(render(target, &subject))
    }
}

fn has_events(target: &Target) -> bool {
    !matches!(
        target.kind.kind.as_str(),
        "ConfigMap" | "Secret" | "Namespace" | "Event"
    ) || target.kind.kind == "ConfigMap"
}

fn render(target: &Target, subject: &Subject) -> String {
    let mut text = Text::default();
    let group = &*target.kind.resource.group;
    match (group, target.kind.kind.as_str()) {
        ("", "Pod") => pod::describe(subject, &mut text),
        ("", "Node") => node::describe(subject, &mut text),
        ("", "Service") => service::describe(subject, &mut text),
        ("", "ConfigMap") => configuration::config_map(subject, &mut text),
        ("", "Secret") => configuration::secret(subject, &mut text),
        ("", "Namespace") => configuration::namespace(subject, &mut text),
        ("apps", "Deployment") => workload::deployment(subject, &mut text),
        ("apps", "ReplicaSet") => workload::replica_set(subject, &mut text),
        ("apps", "DaemonSet") => workload::daemon_set(subject, &mut text),
        ("apps", "StatefulSet") => workload::stateful_set(subject, &mut text),
        ("batch", "Job") => workload::job(subject, &mut text),
        _ => generic::describe(subject, &mut text),
    }
    if let Some(events) = &subject.events {
        events::table(events, subject.now, &mut text);
    }
    text.finish()
}

/// What a description shows beside the object itself.
async fn related(target: &Target, object: &Value, session: &Session) -> Result<Vec<Object>> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let selector = || crate::workloads::selector_text(&object["spec"]["selector"]);
    let (resource, namespace, labels, fields) = match target.kind.kind.as_str() {
        "Node" => (pods(), "", String::new(), format!("spec.nodeName={name}")),
        "Service" => {
            let slices = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
            (
                slices,
                namespace,
                format!("kubernetes.io/service-name={name}"),
                String::new(),
            )
        }
        "Deployment" => {
            let replica_sets = GroupVersionResource::new("apps", "v1", "replicasets");
            (
                replica_sets,
                namespace,
                selector().unwrap_or_default(),
                String::new(),
            )
        }
        "ReplicaSet" | "DaemonSet" | "StatefulSet" => {
            let Some(labels) = selector() else {
                return Ok(Vec::new());
            };
            (pods(), namespace, labels, String::new())
        }
        _ => return Ok(Vec::new()),
    };
    // Who may see the object may not be allowed to see all this: then the description has less.
    let list = session
        .client
        .dynamic(resource, namespace)
        .list(&labels, &fields)
        .await;
    let items = list.map(|list| list.items).unwrap_or_default();
    Ok(items
        .iter()
        .filter_map(|item| item.to_object().ok())
        .collect())
}

fn pods() -> GroupVersionResource {
    crate::workloads::pods()
}

/// The events of an object, the oldest first.
async fn events_of(object: &Value, session: &mut Session) -> Result<Vec<Value>> {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    let namespace = match text("namespace") {
        empty if empty.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    let mut fields = vec![format!("involvedObject.name={}", text("name"))];
    // The node's own events name the node instead of its uid.
    if object["kind"] == "Node" {
        fields.push("involvedObject.kind=Node".to_owned());
    } else {
        fields.push(format!("involvedObject.uid={}", text("uid")));
    }
    let path = kube_client::collection_path(
        &GroupVersionResource::new("", "v1", "events"),
        Some(&namespace),
    );
    let path = with_query(path, "fieldSelector", &fields.join(","));
    let list = match session.get(path, PLAIN).await {
        Ok(list) => list,
        Err(error) if error.api().is_some() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut events = list["items"].as_array().cloned().unwrap_or_default();
    events.sort_by_key(|event| events::last_seen(event).to_owned());
    Ok(events)
}

/// The template of a workload's pods, as `rollout history --revision` shows it.
pub(crate) fn pod_template_text(template: &Value) -> String {
    let mut text = Text::default();
    pod_template::template(template, &mut text);
    text.finish()
}
