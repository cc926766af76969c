//! The `OpenAPI` documents: made from the facts, the caller's table of resources and the schemas of custom resources.
//!
//! One document per group version in version 3; one for everything in version 2, in JSON and in its protobuf form.

mod components;
mod custom;
mod gnostic;
mod operation;
mod parameters;
mod paths;

use serde_json::{Map, Value, json};

pub use gnostic::to_protobuf as v2_to_protobuf;

use components::Components;

/// The version of the API that is served.
const KUBERNETES_VERSION: &str = "1.36";

/// Where descriptions come from; none are in the facts.
pub trait Descriptions {
    /// The description of a field of a model such as `io.k8s.api.core.v1.PodSpec`; "" asks for the model's own.
    fn describe(&self, model: &str, field: &str) -> Option<&str>;
}

impl Descriptions for schema::Descriptions {
    fn describe(&self, model: &str, field: &str) -> Option<&str> {
        Self::describe(self, model, field)
    }
}

/// The verbs a resource or subresource answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// A proxied connection: exec, attach, port-forward, proxy.
    Connect,
}

/// What an object of a resource looks like.
#[derive(Debug, Clone, Copy)]
pub enum ResourceSchema<'a> {
    BuiltIn,
    Custom(CustomSchema<'a>),
}

/// The schema of a custom resource, as its definition gives it for one version.
#[derive(Debug, Clone, Copy, Default)]
pub struct CustomSchema<'a> {
    /// `openAPIV3Schema`.
    pub open_api_v3_schema: Option<&'a Value>,
    /// `spec.preserveUnknownFields` of the definition.
    pub preserve_unknown_fields: bool,
    /// JSON paths of `selectableFields`.
    pub selectable_fields: &'a [&'a str],
}

/// One resource with everything its paths need.
#[derive(Debug, Clone, Copy)]
pub struct ResourcePaths<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub list_kind: &'a str,
    pub plural: &'a str,
    pub is_namespaced: bool,
    pub verbs: &'a [Verb],
    pub schema: ResourceSchema<'a>,
    pub subresources: &'a [SubresourcePaths<'a>],
}

/// One subresource; its kind may be of another group (`Scale`, `Eviction`, `TokenRequest`).
#[derive(Debug, Clone, Copy)]
pub struct SubresourcePaths<'a> {
    pub name: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub verbs: &'a [Verb],
}

/// Which version of `OpenAPI` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    pub(crate) fn reference(self, model: &str) -> Value {
        let place = match self {
            Self::V2 => "definitions",
            Self::V3 => "components/schemas",
        };
        json!({ "$ref": format!("#/{place}/{model}") })
    }
}

/// The name of a model: upstream's for built-in kinds, the group backwards for custom ones.
pub fn model_name(group: &str, version: &str, kind: &str) -> String {
    if let Some(type_ref) = schema::built_in(group, version, kind) {
        return type_ref.name().to_owned();
    }
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The document of one group version: `/openapi/v3/apis/apps/v1`. All resources are of that group version.
pub fn v3_document(
    group: &str,
    version: &str,
    resources: &[ResourcePaths<'_>],
    descriptions: Option<&dyn Descriptions>,
) -> Value {
    let mut components = Components::new(Dialect::V3, descriptions, Some((group, version)));
    let mut paths = Map::new();
    paths::group_version(&mut paths, &mut components, group, version);
    for resource in resources {
        paths::resource(&mut paths, &mut components, resource);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "components": {
            "schemas": components.finish(),
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    })
}

/// The one document of version 2: `/openapi/v2`.
pub fn v2_document(
    resources: &[ResourcePaths<'_>],
    descriptions: Option<&dyn Descriptions>,
) -> Value {
    let mut components = Components::new(Dialect::V2, descriptions, None);
    let mut paths = Map::new();
    let mut group_versions: Vec<_> = resources
        .iter()
        .map(|resource| (resource.group, resource.version))
        .collect();
    group_versions.sort_unstable();
    group_versions.dedup();
    for (group, version) in group_versions {
        paths::group_version(&mut paths, &mut components, group, version);
    }
    for resource in resources {
        paths::resource(&mut paths, &mut components, resource);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": components.finish(),
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

fn bearer_token() -> Value {
    json!({
        "description": "Bearer Token authentication",
        "in": "header",
        "name": "authorization",
        "type": "apiKey",
    })
}

#[cfg(test)]
mod tests;
