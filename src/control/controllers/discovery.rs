//! Which resources there are right now, built-in, custom and aggregated, in the version each group prefers.

use std::collections::BTreeSet;

use apimachinery::{GroupVersion, GroupVersionResource};
use kube_client::{Client, ClientError, group_version_path};
use serde::Deserialize;

/// A resource that can be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovered {
    pub(crate) resource: GroupVersionResource,
    pub(crate) kind: String,
    pub(crate) is_namespaced: bool,
    verbs: Vec<String>,
}

impl Discovered {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// What discovery found, and which groups did not answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovery {
    pub(crate) resources: Vec<Discovered>,
    pub(crate) failures: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    preferred_version: Version,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// Asks for everything. A group that fails is noted; only an API without a root is an error.
pub(crate) async fn discover(client: &Client) -> Result<Discovery, ClientError> {
    let groups: Groups = client.get_json("/apis").await?;
    let mut found = Discovery::default();
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    add_version(client, "v1", &mut found, &mut known).await;
    for group in groups.groups {
        let preferred = group.preferred_version.clone();
        add_version(client, &preferred.group_version, &mut found, &mut known).await;
        // A resource may exist in another version only.
        for version in group
            .versions
            .iter()
            .filter(|one| one.group_version != preferred.group_version)
        {
            add_version(client, &version.group_version, &mut found, &mut known).await;
        }
    }
    Ok(found)
}

async fn add_version(
    client: &Client,
    group_version: &str,
    found: &mut Discovery,
    known: &mut BTreeSet<(String, String)>,
) {
    let version = GroupVersion::parse(group_version);
    let path = group_version_path(&version.group, &version.version);
    let list: Resources = match client.get_json(&path).await {
        Ok(list) => list,
        Err(error) => {
            found
                .failures
                .push((group_version.to_owned(), error.to_string()));
            return;
        }
    };
    let whole = list
        .resources
        .into_iter()
        .filter(|resource| !resource.name.contains('/'));
    for resource in whole.filter(|resource| resource.verbs.iter().any(|verb| verb == "delete")) {
        let slot = (version.group.clone().into_owned(), resource.name.clone());
        if known.insert(slot) {
            found.resources.push(Discovered {
                resource: version.resource(resource.name),
                kind: resource.kind,
                is_namespaced: resource.namespaced,
                verbs: resource.verbs,
            });
        }
    }
}
