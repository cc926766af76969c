//! The pods of this node as a server would show them, for clients on the node itself: reading, logs and exec, without any server.

use apimachinery::{ApiError, FieldSelector, GroupResource, LabelSelector};
use codec::{ColumnDefinition, IncludeObject, ListMetadata, MetaVersion, Table};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use registry::Resource;
use registry::core::pod::Pods;
use serde_json::{Value, json};

use crate::kubelet::Kubelet;
use crate::server::answer::{Answer, json as json_answer, with_type};
use crate::server::pods::list;
use crate::server::route::{ContainerPath, PodPath, parameters, percent_decode};
use crate::server::{logs, streaming};

type Query = [(String, String)];

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Versions,
    Resources,
    Groups,
    /// `None`: of all namespaces.
    Pods(Option<String>),
    Pod(PodPath),
    Log(PodPath),
    Exec(PodPath),
}

impl Route {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode(part, false))
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let pod = |namespace: &str, name: &str| PodPath {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: None,
        };
        Some(match parts.as_slice() {
            ["api"] => Self::Versions,
            ["api", "v1"] => Self::Resources,
            ["apis"] => Self::Groups,
            ["api", "v1", "pods"] => Self::Pods(None),
            ["api", "v1", "namespaces", namespace, "pods"] => {
                Self::Pods(Some((*namespace).to_owned()))
            }
            ["api", "v1", "namespaces", namespace, "pods", name] => Self::Pod(pod(namespace, name)),
            ["api", "v1", "namespaces", namespace, "pods", name, "log"] => {
                Self::Log(pod(namespace, name))
            }
            ["api", "v1", "namespaces", namespace, "pods", name, "exec"] => {
                Self::Exec(pod(namespace, name))
            }
            _ => return None,
        })
    }
}

pub(crate) async fn answer(kubelet: &Kubelet, request: Request<Incoming>) -> Answer {
    let Some(route) = Route::parse(request.uri().path()) else {
        let what = "the node's own socket serves its pods, their logs and exec; the rest is the API server's";
        return failed(&ApiError::new(404, apimachinery::Reason::NotFound, what));
    };
    let query = parameters(request.uri().query().unwrap_or_default());
    let is_exec = matches!(route, Route::Exec(_));
    if request.method() != Method::GET && !(is_exec && request.method() == Method::POST) {
        let resource = GroupResource::new("", "pods");
        return failed(&ApiError::method_not_allowed(
            &resource,
            request.method().as_str(),
        ));
    }
    match route {
        Route::Versions => json_answer(&json!({"kind": "APIVersions", "versions": ["v1"]})),
        Route::Groups => {
            json_answer(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
        }
        Route::Resources => json_answer(&resources()),
        Route::Pods(namespace) => pods(kubelet, namespace.as_deref(), &query, &request)
            .unwrap_or_else(|error| failed(&error)),
        Route::Pod(path) => {
            pod(kubelet, &path, &query, &request).unwrap_or_else(|error| failed(&error))
        }
        Route::Log(path) => match container(kubelet, path, &query) {
            Ok(path) => logs::container_logs(kubelet, &path, &query).await,
            Err(error) => failed(&error),
        },
        Route::Exec(path) => match container(kubelet, path, &query) {
            Ok(path) => streaming::exec(kubelet, &path, &query, request).await,
            Err(error) => failed(&error),
        },
    }
}

fn failed(error: &ApiError) -> Answer {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = error.to_status().to_string().into_bytes();
    with_type(status, "application/json", body)
}

fn resources() -> Value {
    let pods = Pods.description();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [{
        "name": pods.plural, "singularName": pods.singular, "namespaced": true,
        "kind": pods.kind.kind, "verbs": ["get", "list"], "shortNames": pods.short_names,
    }]})
}

fn pods(
    kubelet: &Kubelet,
    namespace: Option<&str>,
    query: &Query,
    request: &Request<Incoming>,
) -> Result<Answer, ApiError> {
    if parameter(query, "watch").is_some_and(|value| !matches!(value, "" | "0" | "false")) {
        let why = "the node's own socket serves no watches: ask again, or ask the API server";
        return Err(ApiError::bad_request(why));
    }
    let wanted = Wanted::parse(namespace, query)?;
    let mut items = list(kubelet);
    let Some(pods) = items["items"].as_array_mut() else {
        return Ok(json_answer(&items));
    };
    pods.retain(|pod| wanted.has(pod));
    pods.sort_by_cached_key(name_of);
    if wants_table(request) {
        return table(kubelet, pods, query);
    }
    Ok(json_answer(&items))
}

fn name_of(pod: &Value) -> (String, String) {
    let text = |name: &str| {
        let text = pod["metadata"][name].as_str();
        text.unwrap_or_default().to_owned()
    };
    (text("namespace"), text("name"))
}

fn pod(
    kubelet: &Kubelet,
    path: &PodPath,
    query: &Query,
    request: &Request<Incoming>,
) -> Result<Answer, ApiError> {
    let pod = find(kubelet, path)?;
    if wants_table(request) {
        return table(kubelet, &[pod], query);
    }
    Ok(json_answer(&pod))
}

fn find(kubelet: &Kubelet, path: &PodPath) -> Result<Value, ApiError> {
    let missing = || ApiError::not_found(&GroupResource::new("", "pods"), &path.name);
    let (_, pod) = kubelet.find_pod(path).map_err(|_not_there| missing())?;
    apimachinery::to_tree(&pod).map_err(ApiError::internal)
}

/// The container that a request names, or the only one.
fn container(kubelet: &Kubelet, pod: PodPath, query: &Query) -> Result<ContainerPath, ApiError> {
    let found = find(kubelet, &pod)?;
    if let Some(named) = parameter(query, "container").filter(|name| !name.is_empty()) {
        let container = named.to_owned();
        return Ok(ContainerPath { pod, container });
    }
    let all = found["spec"]["containers"].as_array();
    let names: Vec<&str> = all
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    match names.as_slice() {
        [only] => Ok(ContainerPath {
            pod,
            container: (*only).to_owned(),
        }),
        _ => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: [{}]",
            pod.name,
            names.join(" ")
        ))),
    }
}

/// Which pods of the node are meant.
struct Wanted<'a> {
    namespace: Option<&'a str>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl<'a> Wanted<'a> {
    fn parse(namespace: Option<&'a str>, query: &Query) -> Result<Self, ApiError> {
        let wrong = |error: apimachinery::SelectorError| ApiError::bad_request(error.to_string());
        let text = |name: &str| parameter(query, name).unwrap_or_default();
        let labels = LabelSelector::parse(text("labelSelector")).map_err(wrong)?;
        let fields = FieldSelector::parse(text("fieldSelector")).map_err(wrong)?;
        let description = Pods.description();
        let unknown = fields
            .0
            .iter()
            .find(|requirement| !description.is_selectable(&requirement.field));
        if let Some(unknown) = unknown {
            let why = format!("field label not supported: {}", unknown.field);
            return Err(ApiError::bad_request(why));
        }
        Ok(Self {
            namespace,
            labels,
            fields,
        })
    }

    fn has(&self, pod: &Value) -> bool {
        let labels = &pod["metadata"]["labels"];
        let field = |name: &str| {
            name.split('.')
                .try_fold(pod, |value, part| value.get(part))
                .and_then(Value::as_str)
        };
        self.namespace
            .is_none_or(|namespace| pod["metadata"]["namespace"] == namespace)
            && self.labels.matches_with(|key| labels[key].as_str())
            && self.fields.matches_with(field)
    }
}

fn parameter<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    let found = query.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

fn wants_table(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get(http::header::ACCEPT);
    accept
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("as=Table"))
}

fn table(kubelet: &Kubelet, pods: &[Value], query: &Query) -> Result<Answer, ApiError> {
    let include = parameter(query, "includeObject").unwrap_or_default();
    let include = IncludeObject::parse(include).map_err(ApiError::bad_request)?;
    let columns: Vec<ColumnDefinition> = Pods
        .columns()
        .into_iter()
        .map(|column| ColumnDefinition {
            name: column.name.into_owned(),
            column_type: column.kind.into_owned(),
            format: column.format.into_owned(),
            description: column.description.into_owned(),
            priority: column.priority,
        })
        .collect();
    let metadata = ListMetadata::default();
    let mut table = Table::new(Some(&columns), &metadata, include, MetaVersion::V1);
    let now = kubelet.services.clock.now();
    for pod in pods {
        let bytes = pod.to_string().into_bytes();
        let cells = Pods.row(&bytes, now).map_err(ApiError::internal)?;
        let revision = pod["metadata"]["resourceVersion"].as_str();
        let revision = revision.and_then(|text| text.parse().ok()).unwrap_or(0);
        table.push(&cells, &bytes, revision);
    }
    Ok(with_type(
        StatusCode::OK,
        "application/json",
        table.finish(),
    ))
}
