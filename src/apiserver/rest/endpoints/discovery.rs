//! Which kinds there are: the documents of old, one per group version, and the aggregated one.

use std::sync::Arc;

use apimachinery::ApiError;
use registry::{Scope, Subresource};
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::body::ResponseBody;
use crate::catalog::{Catalog, Origin, Served};
use crate::endpoints::not_found;
use crate::filters::Incoming;
use crate::respond::response;
use crate::state::State;

/// Kinds that upstream still stores in their first beta, which is what the hash tells.
const HASHED_AS_BETA: &[&str] = &[
    "CustomResourceDefinition",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

pub(crate) fn answer(
    state: &Arc<State>,
    request: &Incoming,
    segments: &[&str],
) -> Result<Answer, ApiError> {
    let catalog = state.catalog.load_full();
    Ok(match segments {
        ["api" | "apis"] if wants_aggregated(request.header("accept")) => {
            aggregated(&catalog, request, segments[0])
        }
        ["api"] => json_answer(&json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": state.advertised_address()}],
        })),
        ["apis"] => json_answer(&group_list(&catalog)),
        ["api", version] if catalog.has_group_version("", version) => {
            json_answer(&resource_list(&catalog, "", version))
        }
        ["apis", group] => match catalog
            .groups()
            .into_iter()
            .find(|(name, _)| name == group && !name.is_empty())
        {
            Some((name, versions)) => {
                let mut document = group_document(&name, &versions);
                document["kind"] = "APIGroup".into();
                document["apiVersion"] = "v1".into();
                json_answer(&document)
            }
            None => not_found(),
        },
        ["apis", group, version]
            if !group.is_empty() && catalog.has_group_version(group, version) =>
        {
            json_answer(&resource_list(&catalog, group, version))
        }
        ["api", _] => Err(ApiError::no_such_path())?,
        ["apis", group, _]
            if catalog
                .groups()
                .iter()
                .any(|(name, _)| name == group && !name.is_empty()) =>
        {
            Err(ApiError::no_such_path())?
        }
        _ => not_found(),
    })
}

fn json_answer(document: &Value) -> Answer {
    Answer::value(200, document.clone())
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn group_document(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(name, version), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions[0].clone(), "versions": versions})
}

fn group_list(catalog: &Catalog) -> Value {
    let groups = catalog.groups();
    let groups: Vec<Value> = groups
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| group_document(name, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn in_version<'a>(catalog: &'a Catalog, group: &str, version: &str) -> Vec<&'a Arc<Served>> {
    let mut found: Vec<_> = catalog
        .all()
        .filter(|served| {
            served.description.kind.group == group && served.description.kind.version == version
        })
        .collect();
    found.sort_by(|left, right| left.description.plural.cmp(&right.description.plural));
    found
}

fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for served in in_version(catalog, group, version) {
        resources.push(resource_document(served));
        resources.extend(
            sorted_subresources(served)
                .into_iter()
                .map(|subresource| subresource_document(served, subresource)),
        );
    }
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": resources});
    // The core group's document is older than the field, and stays as it was.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    list
}

/// The verbs of custom kinds come in upstream's order of them.
const CUSTOM_VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

fn verbs(served: &Served) -> &'static [&'static str] {
    match served.origin {
        Origin::Custom => &CUSTOM_VERBS,
        Origin::BuiltIn => served.description.verbs.names(),
    }
}

/// Upstream lists the status of a custom kind first.
fn sorted_subresources(served: &Served) -> Vec<Subresource> {
    let mut below = served.description.subresources.clone();
    below.sort_by_key(|subresource| subresource.name());
    if served.origin == Origin::Custom {
        below.reverse();
    }
    below
}

fn resource_document(served: &Served) -> Value {
    let description = &served.description;
    let mut document = json!({
        "name": description.plural, "singularName": description.singular,
        "namespaced": description.is_namespaced(), "kind": description.kind.kind, "verbs": verbs(served),
    });
    if !description.short_names.is_empty() {
        document["shortNames"] = json!(description.short_names);
    }
    if !description.categories.is_empty() {
        document["categories"] = json!(description.categories);
    }
    if description.verbs.is_stored() {
        document["storageVersionHash"] = storage_version_hash(served).into();
    }
    document
}

/// Eight bytes that change when the stored version does.
fn storage_version_hash(served: &Served) -> String {
    use base64::Engine as _;
    let kind = &served.description.stored_kind;
    let version = if HASHED_AS_BETA.contains(&kind.kind.as_ref()) {
        "v1beta1"
    } else {
        &kind.version
    };
    let text = format!("{}/{version}/{}", kind.group, kind.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

/// The kind that a subresource takes and gives, where it is not that of its object.
pub(crate) fn subresource_kind(
    served: &Served,
    subresource: Subresource,
) -> (&'static str, &'static str, String) {
    let own = served.description.kind.kind.to_string();
    match subresource {
        Subresource::Scale => ("autoscaling", "v1", "Scale".to_owned()),
        Subresource::Eviction => ("policy", "v1", "Eviction".to_owned()),
        Subresource::Token => ("authentication.k8s.io", "v1", "TokenRequest".to_owned()),
        Subresource::Binding => ("", "", "Binding".to_owned()),
        Subresource::Attach => ("", "", "PodAttachOptions".to_owned()),
        Subresource::Exec => ("", "", "PodExecOptions".to_owned()),
        Subresource::PortForward => ("", "", "PodPortForwardOptions".to_owned()),
        Subresource::Proxy => ("", "", format!("{own}ProxyOptions")),
        _ => ("", "", own),
    }
}

fn subresource_document(served: &Served, subresource: Subresource) -> Value {
    let description = &served.description;
    let (group, version, kind) = subresource_kind(served, subresource);
    let mut document = json!({
        "name": format!("{}/{}", description.plural, subresource.name()), "singularName": "",
        "namespaced": description.is_namespaced(), "kind": kind, "verbs": subresource.verbs(),
    });
    if !version.is_empty() {
        document["group"] = group.into();
        document["version"] = version.into();
    }
    document
}

fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|part| {
        let part: String = part
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .collect();
        part.starts_with("application/json")
            && part.contains("g=apidiscovery.k8s.io")
            && part.contains("v=v2;")
            && part.contains("as=APIGroupDiscoveryList")
    })
}

fn aggregated(catalog: &Catalog, request: &Incoming, root: &str) -> Answer {
    let items: Vec<Value> = catalog
        .groups()
        .into_iter()
        .filter(|(name, _)| name.is_empty() == (root == "api"))
        .map(|(name, versions)| aggregated_group(catalog, &name, &versions))
        .collect();
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    })
    .to_string();
    let digest = ring::digest::digest(&ring::digest::SHA512, document.as_bytes());
    let etag = format!(
        "\"{}\"",
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<String>()
    );
    let is_known = request.header("if-none-match") == etag;
    let mut answer = if is_known {
        response(304, AGGREGATED, ResponseBody::whole(""))
    } else {
        response(200, AGGREGATED, ResponseBody::whole(document))
    };
    let headers = answer.headers_mut();
    headers.insert(http::header::VARY, http::HeaderValue::from_static("Accept"));
    headers.insert(
        http::header::CACHE_CONTROL,
        http::HeaderValue::from_static("public"),
    );
    if let Ok(etag) = http::HeaderValue::from_str(&etag) {
        headers.insert(http::header::ETAG, etag);
    }
    Answer::Written(answer)
}

fn aggregated_group(catalog: &Catalog, name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> = in_version(catalog, name, version)
                .into_iter()
                .map(|served| aggregated_resource(served))
                .collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let mut metadata = json!({});
    if !name.is_empty() {
        metadata["name"] = name.into();
    }
    json!({"metadata": metadata, "versions": versions})
}

fn kind_document(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_resource(served: &Served) -> Value {
    let description = &served.description;
    let mut document = Map::new();
    document.insert("resource".into(), description.plural.clone().into());
    document.insert(
        "responseKind".into(),
        kind_document("", "", &description.kind.kind),
    );
    document.insert(
        "scope".into(),
        if description.scope == Scope::Namespaced {
            "Namespaced"
        } else {
            "Cluster"
        }
        .into(),
    );
    document.insert(
        "singularResource".into(),
        description.singular.clone().into(),
    );
    document.insert("verbs".into(), json!(verbs(served)));
    if !description.short_names.is_empty() {
        document.insert("shortNames".into(), json!(description.short_names));
    }
    if !description.categories.is_empty() {
        document.insert("categories".into(), json!(description.categories));
    }
    let below: Vec<Value> = sorted_subresources(served)
        .into_iter()
        .map(|subresource| {
            let (group, version, answer) = subresource_kind(served, subresource);
            // An empty group and version mean those of the document.
            let response_kind = kind_document(group, version, &answer);
            json!({"subresource": subresource.name(), "responseKind": response_kind, "verbs": subresource.verbs()})
        })
        .collect();
    if !below.is_empty() {
        document.insert("subresources".into(), below.into());
    }
    Value::Object(document)
}
