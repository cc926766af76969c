//! The resources a server serves, and what people call them.

use apimachinery::{GroupKind, GroupVersionResource, Object};
use futures_util::future::try_join_all;
use kube_client::{Client, ClientError, Method, Request, answer, group_version_path};
use serde_json::Value;

use crate::error::{Error, Result};

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                         application/json";

/// One kind of object, as the server tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceKind {
    pub(crate) resource: GroupVersionResource,
    pub(crate) kind: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) is_namespaced: bool,
    /// Whether `<resource>/scale` exists.
    pub(crate) is_scalable: bool,
}

impl ResourceKind {
    /// `deployment.apps`, `pod`: how one object's kind is named in messages.
    pub(crate) fn qualified_kind(&self) -> String {
        GroupKind::new(self.resource.group.clone(), self.kind.to_lowercase()).to_string()
    }

    /// `deployment.apps/x`.
    pub(crate) fn label(&self, name: &str) -> String {
        format!("{}/{name}", self.qualified_kind())
    }

    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// The namespace in a path: none for cluster-wide kinds.
    pub(crate) fn namespace<'a>(&self, namespace: &'a str) -> &'a str {
        if self.is_namespaced { namespace } else { "" }
    }

    fn is_called(&self, name: &str) -> bool {
        self.resource.resource == name
            || self.singular == name
            || self.kind.to_lowercase() == name
            || self.short_names.iter().any(|short| short == name)
    }
}

/// All kinds: the core group first, then in the server's order; of each group the preferred version first.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) kinds: Vec<ResourceKind>,
}

impl Catalogue {
    pub(crate) async fn discover(client: &Client) -> Result<Self, ClientError> {
        let (core, groups) =
            tokio::try_join!(discovery(client, "/api"), discovery(client, "/apis"))?;
        let mut kinds = Vec::new();
        for (document, root) in [(&core, "/api"), (&groups, "/apis")] {
            if document["kind"] == "APIGroupDiscoveryList" {
                kinds.extend(aggregated(document));
            } else {
                kinds.extend(legacy(client, document, root).await?);
            }
        }
        Ok(Self { kinds })
    }

    /// The kind of `pods`, `po`, `pod`, `Pod`, `deployments.apps`, `deployments.v1.apps`.
    pub(crate) fn find(&self, name: &str) -> Result<&ResourceKind> {
        let lower = name.to_lowercase();
        let (resource, rest) = match lower.split_once('.') {
            Some((resource, rest)) => (resource, Some(rest)),
            None => (lower.as_str(), None),
        };
        let found = match rest {
            None => self.kinds.iter().find(|kind| kind.is_called(resource)),
            Some(group) => self.kinds.iter().find(|kind| {
                let GroupVersionResource {
                    group: of, version, ..
                } = &kind.resource;
                let qualified = of == group
                    || format!("{version}.{of}").trim_end_matches('.') == group
                    || (of.starts_with(group) && of[group.len()..].starts_with('.'));
                kind.is_called(resource) && qualified
            }),
        };
        found.ok_or_else(|| match rest {
            None => Error::usage(format!(
                "the server doesn't have a resource type {resource:?}"
            )),
            Some(group) => Error::usage(format!(
                "the server doesn't have a resource type {resource:?} in group {group:?}"
            )),
        })
    }

    /// The listable kinds of a category such as `all`, one version of each.
    pub(crate) fn category(&self, name: &str) -> Vec<&ResourceKind> {
        let mut found: Vec<&ResourceKind> = Vec::new();
        for kind in self.preferred() {
            if kind.categories.iter().any(|category| category == name) {
                found.push(kind);
            }
        }
        found
    }

    /// Every kind in one version.
    pub(crate) fn preferred(&self) -> impl Iterator<Item = &ResourceKind> {
        let mut seen = std::collections::BTreeSet::new();
        self.kinds
            .iter()
            .filter(move |kind| seen.insert(kind.resource.group_resource()))
    }

    /// The kind of a manifest.
    pub(crate) fn of_object(&self, object: &Object) -> Result<&ResourceKind> {
        let wanted = object.group_version_kind();
        let found = self.kinds.iter().find(|kind| {
            kind.kind == wanted.kind
                && kind.resource.group == wanted.group
                && kind.resource.version == wanted.version
        });
        found.ok_or_else(|| {
            Error::usage(format!(
                "resource mapping not found for name: {:?} namespace: {:?}: no matches for kind {:?} \
                 in version {:?}\nensure CRDs are installed first",
                object.name(),
                object.namespace(),
                object.kind(),
                object.api_version()
            ))
        })
    }
}

async fn discovery(client: &Client, path: &str) -> Result<Value, ClientError> {
    let request = Request {
        method: Method::Get,
        path: path.to_owned(),
        content_type: "",
        body: bytes::Bytes::new(),
    };
    answer(
        &client
            .transport()
            .call_accepting(request, DISCOVERY)
            .await?,
    )
}

fn aggregated(document: &Value) -> Vec<ResourceKind> {
    let mut kinds = Vec::new();
    for group in list(&document["items"]) {
        let group_name = text(&group["metadata"]["name"]);
        for version in list(&group["versions"]) {
            for resource in list(&version["resources"]) {
                let subresources = list(&resource["subresources"]);
                kinds.push(ResourceKind {
                    resource: GroupVersionResource::new(
                        group_name.clone(),
                        text(&version["version"]),
                        text(&resource["resource"]),
                    ),
                    kind: text(&resource["responseKind"]["kind"]),
                    singular: text(&resource["singularResource"]),
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    verbs: texts(&resource["verbs"]),
                    is_namespaced: resource["scope"] == "Namespaced",
                    is_scalable: subresources
                        .iter()
                        .any(|part| part["subresource"] == "scale"),
                });
            }
        }
    }
    kinds
}

/// The documents of before the aggregated form: one a version.
async fn legacy(
    client: &Client,
    document: &Value,
    root: &str,
) -> Result<Vec<ResourceKind>, ClientError> {
    let mut versions: Vec<(String, String)> = Vec::new();
    if root == "/api" {
        versions.extend(
            texts(&document["versions"])
                .into_iter()
                .map(|version| (String::new(), version)),
        );
    }
    for group in list(&document["groups"]) {
        let preferred = text(&group["preferredVersion"]["version"]);
        let mut of_group: Vec<String> = list(&group["versions"])
            .iter()
            .map(|version| text(&version["version"]))
            .collect();
        of_group.sort_by_key(|version| *version != preferred);
        versions.extend(
            of_group
                .into_iter()
                .map(|version| (text(&group["name"]), version)),
        );
    }
    let calls = versions.iter().map(|(group, version)| async move {
        let document: Value = client.get_json(&group_version_path(group, version)).await?;
        Ok::<_, ClientError>(of_version(&document, group, version))
    });
    Ok(try_join_all(calls).await?.into_iter().flatten().collect())
}

fn of_version(document: &Value, group: &str, version: &str) -> Vec<ResourceKind> {
    let rows = list(&document["resources"]);
    let names: Vec<String> = rows.iter().map(|row| text(&row["name"])).collect();
    rows.iter()
        .filter(|row| !text(&row["name"]).contains('/'))
        .map(|row| {
            let name = text(&row["name"]);
            ResourceKind {
                is_scalable: names.contains(&format!("{name}/scale")),
                resource: GroupVersionResource::new(group.to_owned(), version.to_owned(), name),
                kind: text(&row["kind"]),
                singular: text(&row["singularName"]),
                short_names: texts(&row["shortNames"]),
                categories: texts(&row["categories"]),
                verbs: texts(&row["verbs"]),
                is_namespaced: row["namespaced"] == true,
            }
        })
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use env::SystemClock;
    use kube_client::fake::{FakeApi, FakeResource};

    use super::*;

    #[tokio::test]
    async fn a_kind_is_found_by_any_of_its_names() {
        let api = FakeApi::new(SystemClock::shared());
        api.serve(FakeResource::new("example.com", "v1", "pods", "Pod", true));
        let catalogue = Catalogue::discover(&api.client()).await.expect("discovery");
        for name in ["pods", "pod", "Pod"] {
            assert_eq!(catalogue.find(name).expect("pods").resource.group, "");
        }
        for name in ["deployments.apps", "deployment.v1.apps"] {
            assert_eq!(
                catalogue.find(name).expect("deployments").kind,
                "Deployment"
            );
        }
        assert_eq!(
            catalogue
                .find("pods.example.com")
                .expect("the other")
                .resource
                .group,
            "example.com"
        );
        assert_eq!(
            catalogue.find("foo").expect_err("no such kind").to_string(),
            "error: the server doesn't have a resource type \"foo\""
        );
    }
}
