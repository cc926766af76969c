//! Which resource an object is of, as the API says now.

use std::collections::BTreeMap;

use apimachinery::GroupVersionResource;
use kube_client::{Client, ClientError, group_version_path};
use serde::Deserialize;

/// The resources of the group versions that were asked for, as of one pass.
pub(crate) struct Kinds {
    client: Client,
    /// `None`: the API serves no such group version.
    known: BTreeMap<String, Option<Vec<ApiResource>>>,
}

#[derive(Clone, Debug, Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    namespaced: bool,
}

#[derive(Deserialize)]
struct ApiResourceList {
    resources: Vec<ApiResource>,
}

/// Where the objects of a kind are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) resource: GroupVersionResource,
    pub(crate) is_namespaced: bool,
}

impl Kinds {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            known: BTreeMap::new(),
        }
    }

    /// `None`: no such kind is served.
    pub(crate) async fn place(
        &mut self,
        api_version: &str,
        kind: &str,
    ) -> Result<Option<Place>, ClientError> {
        if !self.known.contains_key(api_version) {
            let resources = self.ask(api_version).await?;
            self.known.insert(api_version.to_owned(), resources);
        }
        let resources = self.known.get(api_version).and_then(Option::as_ref);
        let found = resources.and_then(|resources| {
            let mut of_kind = resources.iter().filter(|resource| resource.kind == kind);
            // A subresource has a slash in its name.
            of_kind.find(|resource| !resource.name.contains('/'))
        });
        let (group, version) = split(api_version);
        Ok(found.map(|resource| Place {
            resource: GroupVersionResource::new(
                group.to_owned(),
                version.to_owned(),
                resource.name.clone(),
            ),
            is_namespaced: resource.namespaced,
        }))
    }

    async fn ask(&self, api_version: &str) -> Result<Option<Vec<ApiResource>>, ClientError> {
        let (group, version) = split(api_version);
        let path = group_version_path(group, version);
        match self.client.get_json::<ApiResourceList>(&path).await {
            Ok(list) => Ok(Some(list.resources)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
