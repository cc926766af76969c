//! Deletes what is in a namespace and tells what is left of it.

use std::collections::BTreeMap;

use apimachinery::GroupVersionResource;
use futures_util::future::join_all;
use kube_client::{Client, ClientError, DeleteOptions};

use crate::discovery::{Discovered, discover};

/// Objects of one resource that have not gone.
#[derive(Clone, Debug)]
pub(super) struct Remaining {
    pub(super) resource: GroupVersionResource,
    pub(super) count: usize,
    pub(super) finalizers: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Groups that did not answer, with their errors.
    pub(super) undiscovered: Vec<(String, String)>,
    pub(super) errors: Vec<String>,
    pub(super) remaining: Vec<Remaining>,
    /// Pods remain, so that nothing else was touched.
    pub(super) is_waiting_for_pods: bool,
}

impl Content {
    /// Deletes pods, and everything else once no pod is left: what pods need must outlive them (KEP-5080).
    pub(super) async fn delete(client: &Client, namespace: &str) -> Self {
        let mut content = Self::default();
        let found = match discover(client).await {
            Ok(found) => found,
            Err(error) => {
                content
                    .undiscovered
                    .push((String::new(), error.to_string()));
                return content;
            }
        };
        content.undiscovered = found.failures;
        let namespaced = found
            .resources
            .into_iter()
            .filter(|resource| resource.is_namespaced);
        let (pods, others): (Vec<Discovered>, Vec<Discovered>) = namespaced.partition(|found| {
            found.resource.group.is_empty() && found.resource.resource == "pods"
        });
        content.delete_all(client, namespace, &pods).await;
        content.is_waiting_for_pods = !content.remaining.is_empty();
        if !content.is_waiting_for_pods {
            content.delete_all(client, namespace, &others).await;
        }
        content
    }

    pub(super) fn first_error(&self) -> Option<String> {
        let undiscovered = self
            .undiscovered
            .first()
            .map(|(group, error)| format!("{group}: {error}"));
        self.errors.first().cloned().or(undiscovered)
    }

    async fn delete_all(&mut self, client: &Client, namespace: &str, resources: &[Discovered]) {
        let deletions = resources
            .iter()
            .map(|resource| delete_resource(client, namespace, resource));
        for result in join_all(deletions).await {
            match result {
                Ok(Some(remaining)) => self.remaining.push(remaining),
                Ok(None) => {}
                Err(error) => self.errors.push(error.to_string()),
            }
        }
    }
}

async fn delete_resource(
    client: &Client,
    namespace: &str,
    found: &Discovered,
) -> Result<Option<Remaining>, ClientError> {
    let api = client.dynamic(found.resource.clone(), namespace);
    let background = DeleteOptions {
        propagation: Some(kube_client::Propagation::Background),
        ..DeleteOptions::default()
    };
    if found.can("deletecollection") {
        match api.delete_collection(&background, "", "").await {
            // The resource has just gone, or does not allow it after all.
            Err(error)
                if error
                    .api()
                    .is_some_and(|error| matches!(error.code, 404 | 405)) => {}
            other => other?,
        }
    }
    if !found.can("list") {
        return Ok(None);
    }
    let list = match api.list("", "").await {
        Err(error)
            if error
                .api()
                .is_some_and(|error| matches!(error.code, 404 | 405)) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    if !found.can("deletecollection") {
        for object in &list.items {
            match api.delete(&object.key().name, &background).await {
                Err(error) if error.is_not_found() => {}
                other => drop(other?),
            }
        }
    }
    if list.items.is_empty() {
        return Ok(None);
    }
    let mut finalizers = BTreeMap::new();
    for finalizer in list
        .items
        .iter()
        .flat_map(|object| object.index.finalizers.iter())
    {
        *finalizers.entry(finalizer.to_string()).or_insert(0) += 1;
    }
    Ok(Some(Remaining {
        resource: found.resource.clone(),
        count: list.items.len(),
        finalizers,
    }))
}
