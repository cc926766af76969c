//! Keeps the served kinds as the definitions say, writes the definitions' statuses, and empties what is going.

use std::sync::Arc;

use apimachinery::{ObjectKey, StoredObject};
use env::{Clock, Shutdown};
use informer::Factory;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_client::{Client, ClientError, DynamicApi, resource_of};
use registry::ResourceHandle;
use serde_json::json;

use crate::custom_resource::CustomResource;
use crate::definition::Definition;
use crate::establish::wanted_status;

/// Stands until the definition's resources are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// A definition whose work failed is looked at again after this.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Follows the definitions until the end is asked for; `serve` is told all kinds whenever they change.
pub async fn follow(
    client: Client,
    factory: &Factory,
    clock: Arc<dyn Clock>,
    serve: impl Fn(Vec<ResourceHandle>),
    shutdown: Shutdown,
) {
    let changes = factory.all::<CustomResourceDefinition>().subscribe();
    let definitions = client.dynamic(resource_of::<CustomResourceDefinition>(), "");
    tokio::select! {
        biased;
        () = shutdown.requested() => return,
        () = changes.cache().wait_for_sync() => {}
    }
    loop {
        while changes.try_next().is_some() {}
        let all = read(&changes.cache().list());
        serve(served(&all));
        let failed = settle(&client, &definitions, &all, &*clock).await;
        let retry = async {
            if failed {
                env::sleep(RETRY).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            _change = changes.next() => {}
            () = retry => {}
        }
    }
}

fn read(stored: &[StoredObject]) -> Vec<Definition> {
    stored
        .iter()
        .filter_map(|stored| stored.decode().ok())
        .collect()
}

/// Every served version of every established definition.
fn served(all: &[Definition]) -> Vec<ResourceHandle> {
    let mut handles = Vec::new();
    for definition in all
        .iter()
        .filter(|definition| definition.has_condition("Established"))
    {
        for version in definition
            .spec
            .versions
            .iter()
            .filter(|version| version.served)
        {
            match CustomResource::new(definition, version) {
                Ok(resource) => handles.push(ResourceHandle::Dynamic(Arc::new(resource))),
                Err(error) => {
                    tracing::warn!(definition = definition.metadata.name, %error, "a custom kind cannot be served");
                }
            }
        }
    }
    handles
}

/// Writes what is not as it should be; answers whether something failed and has to be tried again.
async fn settle(
    client: &Client,
    definitions: &DynamicApi,
    all: &[Definition],
    clock: &dyn Clock,
) -> bool {
    let mut failed = false;
    for definition in all {
        let done = if definition.is_being_deleted() {
            clean_up(client, definitions, definition).await
        } else {
            write_status(definitions, definition, all, clock).await
        };
        match done {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::debug!(definition = definition.metadata.name, %error, "a definition is tried again");
                failed = true;
            }
        }
    }
    failed
}

async fn write_status(
    definitions: &DynamicApi,
    definition: &Definition,
    all: &[Definition],
    clock: &dyn Clock,
) -> Result<(), ClientError> {
    let wanted = wanted_status(definition, all, clock.now());
    if wanted == definition.status {
        return Ok(());
    }
    let mut object = definitions.get(&definition.metadata.name).await?;
    object.set_at(
        &["status"],
        json!({"conditions": wanted.conditions, "acceptedNames": wanted.accepted_names, "storedVersions": wanted.stored_versions}),
    );
    definitions.update_status(&object).await.map(drop)
}

/// Deletes the resources of a definition that goes, then lets it go.
async fn clean_up(
    client: &Client,
    definitions: &DynamicApi,
    definition: &Definition,
) -> Result<(), ClientError> {
    let mut object = definitions.get(&definition.metadata.name).await?;
    if !object.finalizers().contains(&FINALIZER) {
        return Ok(());
    }
    if let Some(version) = definition
        .spec
        .versions
        .iter()
        .find(|version| version.served)
    {
        let group_version = definition.kind_in(&version.name).group_version();
        let resources = client.dynamic(
            group_version.resource(definition.spec.names.plural.clone()),
            "",
        );
        let present = resources.list("", "").await?;
        for key in present.items.iter().map(|item| item.key().clone()) {
            delete(client, definition, &group_version, &key).await?;
        }
        if !resources.list("", "").await?.items.is_empty() {
            return Err(ClientError::Unreachable(
                "some resources are still there".to_owned(),
            ));
        }
    }
    let rest = object
        .finalizers()
        .into_iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .map(str::to_owned)
        .collect();
    object.set_finalizers(rest);
    definitions.update(&object).await.map(drop)
}

async fn delete(
    client: &Client,
    definition: &Definition,
    group_version: &apimachinery::GroupVersion,
    key: &ObjectKey,
) -> Result<(), ClientError> {
    let api = client.dynamic(
        group_version.resource(definition.spec.names.plural.clone()),
        &key.namespace,
    );
    match api
        .delete(&key.name, &kube_client::DeleteOptions::default())
        .await
    {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
