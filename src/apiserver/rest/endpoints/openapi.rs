//! `/openapi/v2` and `/openapi/v3`: made when they are asked for, and named by a hash of what they are made from.

use std::fmt::Write as _;
use std::sync::Arc;

use apimachinery::ApiError;
use codec::openapi::{
    CustomSchema, Descriptions, ResourcePaths, ResourceSchema, SubresourcePaths, Verb, v2_document,
    v2_to_protobuf, v3_document,
};
use http::HeaderValue;
use registry::Subresource;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::body::ResponseBody;
use crate::catalog::{Catalog, Served};
use crate::endpoints::discovery::subresource_kind;
use crate::endpoints::not_found;
use crate::filters::Incoming;
use crate::respond::{response, text_response};
use crate::state::State;

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

pub(crate) async fn answer(
    state: &Arc<State>,
    request: &Incoming,
    segments: &[&str],
) -> Result<Answer, ApiError> {
    let catalog = state.catalog.load_full();
    let (group, version) = match segments {
        ["openapi", "v3"] => {
            return Ok(Answer::Written(text_response(
                200,
                index(&catalog).to_string(),
            )));
        }
        ["openapi", "v2"] => return v2(catalog, request).await,
        ["openapi", "v3", "api", version] => (String::new(), (*version).to_owned()),
        ["openapi", "v3", "apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Ok(not_found()),
    };
    if !catalog.has_group_version(&group, &version) {
        let mut nothing = text_response(404, "");
        nothing.headers_mut().remove(http::header::CONTENT_TYPE);
        return Ok(Answer::Written(nothing));
    }
    let etag = hash(&in_version(&catalog, &group, &version));
    let made = off_thread(move || {
        let served = in_version(&catalog, &group, &version);
        let descriptions = schema::Descriptions::read();
        let make = |paths: &[ResourcePaths<'_>]| {
            v3_document(&group, &version, paths, dynamic(descriptions.as_ref()))
        };
        Ok(with_paths(&served, make).to_string().into_bytes())
    });
    tagged(request, &etag, "application/json", made).await
}

async fn v2(catalog: Arc<Catalog>, request: &Incoming) -> Result<Answer, ApiError> {
    let all: Vec<Arc<Served>> = catalog.all().cloned().collect();
    let etag = hash(&all);
    let protobuf = wants_protobuf(request.header("accept"));
    let made = off_thread(move || {
        let descriptions = schema::Descriptions::read();
        let document = with_paths(&all, |paths| {
            v2_document(paths, dynamic(descriptions.as_ref()))
        });
        Ok(if protobuf {
            v2_to_protobuf(&document)
        } else {
            document.to_string().into_bytes()
        })
    });
    tagged(
        request,
        &etag,
        if protobuf {
            V2_PROTOBUF
        } else {
            "application/json"
        },
        made,
    )
    .await
}

fn dynamic(descriptions: Option<&schema::Descriptions>) -> Option<&dyn Descriptions> {
    descriptions.map(|descriptions| -> &dyn Descriptions { descriptions })
}

fn wants_protobuf(accept: &str) -> bool {
    // Clients list what they prefer first.
    let first = accept.split(',').next().unwrap_or_default().trim();
    first.starts_with("application/com.github.proto-openapi.spec.v2")
}

/// The documents take tens of milliseconds to make: too long for a thread that serves others.
async fn off_thread(
    make: impl FnOnce() -> Result<Vec<u8>, ApiError> + Send + 'static,
) -> Result<Vec<u8>, ApiError> {
    env::spawn_blocking(make)
        .await
        .map_err(ApiError::internal)?
}

async fn tagged(
    request: &Incoming,
    etag: &str,
    content_type: &'static str,
    made: impl Future<Output = Result<Vec<u8>, ApiError>>,
) -> Result<Answer, ApiError> {
    let quoted = format!("\"{etag}\"");
    let mut answer = if request.header("if-none-match") == quoted {
        response(304, content_type, ResponseBody::whole(""))
    } else {
        response(200, content_type, ResponseBody::whole(made.await?))
    };
    let headers = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&quoted) {
        headers.insert(http::header::ETAG, etag);
    }
    headers.insert(http::header::VARY, HeaderValue::from_static("Accept"));
    if request.info.query.get("hash") == Some(etag) {
        headers.insert(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("public, immutable"),
        );
    }
    Ok(Answer::Written(answer))
}

fn in_version(catalog: &Catalog, group: &str, version: &str) -> Vec<Arc<Served>> {
    let is_in = |served: &&Arc<Served>| {
        served.description.kind.group == group && served.description.kind.version == version
    };
    catalog.all().filter(is_in).cloned().collect()
}

/// A document is a function of the program and of the kinds in it.
fn hash(served: &[Arc<Served>]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA512);
    context.update(env!("CARGO_PKG_VERSION").as_bytes());
    for served in served {
        context.update(format!("{:?}", served.description).as_bytes());
        if let Some(schema) = served.resource.open_api_schema() {
            context.update(schema.to_string().as_bytes());
        }
    }
    let mut text = String::with_capacity(128);
    for byte in context.finish().as_ref() {
        let _infallible = write!(text, "{byte:02X}");
    }
    text
}

fn index(catalog: &Catalog) -> Value {
    let mut paths = serde_json::Map::new();
    for (group, versions) in catalog.groups() {
        for version in versions {
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let hash = hash(&in_version(catalog, &group, &version));
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}),
            );
        }
    }
    json!({"paths": paths})
}

/// Everything that the paths borrow from, while `make` runs.
fn with_paths(served: &[Arc<Served>], make: impl FnOnce(&[ResourcePaths<'_>]) -> Value) -> Value {
    let verbs: Vec<Vec<Verb>> = served
        .iter()
        .map(|served| {
            served
                .description
                .verbs
                .names()
                .iter()
                .filter_map(|name| verb(name))
                .collect()
        })
        .collect();
    let kinds: Vec<Vec<Below>> = served.iter().map(|served| below(served)).collect();
    let below: Vec<Vec<SubresourcePaths<'_>>> = kinds
        .iter()
        .map(|kinds| kinds.iter().map(Below::paths).collect())
        .collect();
    let schemas: Vec<Option<Value>> = served
        .iter()
        .map(|served| served.resource.open_api_schema())
        .collect();
    let paths: Vec<ResourcePaths<'_>> = served
        .iter()
        .enumerate()
        .map(|(at, served)| {
            let description = &served.description;
            ResourcePaths {
                group: &description.kind.group,
                version: &description.kind.version,
                kind: &description.kind.kind,
                list_kind: &description.list_kind,
                plural: &description.plural,
                is_namespaced: description.is_namespaced(),
                verbs: &verbs[at],
                schema: match &schemas[at] {
                    Some(schema) => ResourceSchema::Custom(CustomSchema {
                        open_api_v3_schema: Some(schema),
                        ..CustomSchema::default()
                    }),
                    None => ResourceSchema::BuiltIn,
                },
                subresources: &below[at],
            }
        })
        .collect();
    make(&paths)
}

fn verb(name: &str) -> Option<Verb> {
    Some(match name {
        "get" => Verb::Get,
        "list" => Verb::List,
        "watch" => Verb::Watch,
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        _ => return None,
    })
}

struct Below {
    name: &'static str,
    group: String,
    version: String,
    kind: String,
    verbs: Vec<Verb>,
}

impl Below {
    fn paths(&self) -> SubresourcePaths<'_> {
        SubresourcePaths {
            name: self.name,
            group: &self.group,
            version: &self.version,
            kind: &self.kind,
            verbs: &self.verbs,
        }
    }
}

fn below(served: &Served) -> Vec<Below> {
    let own = &served.description.kind;
    served
        .description
        .subresources
        .iter()
        .map(|&subresource| {
            let (group, version, kind) = subresource_kind(served, subresource);
            let (group, version) = if version.is_empty() {
                (own.group.as_ref(), own.version.as_ref())
            } else {
                (group, version)
            };
            let verbs = match subresource {
                Subresource::Attach
                | Subresource::Exec
                | Subresource::PortForward
                | Subresource::Proxy => {
                    vec![Verb::Connect]
                }
                other => other.verbs().iter().filter_map(|name| verb(name)).collect(),
            };
            Below {
                name: subresource.name(),
                group: group.to_owned(),
                version: version.to_owned(),
                kind,
                verbs,
            }
        })
        .collect()
}
