//! `/log /exec /attach /portforward` of pods and `/proxy` of pods, Services and nodes: bytes that pass through.

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind, Object, ObjectKey};
use registry::Subresource;
use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::Served;
use crate::filters::{self, Authorized, Incoming};
use crate::kubelet::KubeletAddress;
use crate::proxy::{Target, forward};
use crate::query::{Query, encode};
use crate::request_info::{ResourcePath, Verb};
use crate::state::State;
use crate::subresources::connect;
use crate::subresources::log_messages::forward_log;
use std::sync::Arc;

/// Where kubelets listen when a node does not say.
const KUBELET_PORT: u16 = 10250;

pub(crate) async fn answer(
    state: &Arc<State>,
    authorized: &Authorized,
    served: &Arc<Served>,
    subresource: Subresource,
    request: Incoming,
) -> Result<Answer, ApiError> {
    let target = {
        let call = Call {
            state,
            authorized,
            path: authorized.resource().expect("subresources are resources"),
            served,
            query: &request.info.query,
            headers: &request.headers,
            warnings: &request.warnings,
            body: bytes::Bytes::new(),
        };
        match subresource {
            Subresource::Log => log_target(&call).await?,
            _ => connection_target(&call, subresource, &request.info.path).await?,
        }
    };
    if subresource == Subresource::Proxy
        && authorized
            .resource()
            .is_some_and(|path| path.rest.is_empty())
        && !request.info.path.ends_with('/')
    {
        // Links on the page behind the proxy are relative to its root.
        if let Some(redirect) = crate::proxy::to_trailing_slash(&request) {
            return Ok(Answer::Written(redirect));
        }
    }
    if subresource == Subresource::Log && streams::handshake::is_web_socket(&request.headers) {
        return Ok(Answer::Written(forward_log(state, target, request).await?));
    }
    Ok(Answer::Written(forward(state, target, request).await?))
}

/// Where a connection leads that admission lets through.
async fn connection_target(
    call: &Call<'_>,
    subresource: Subresource,
    path: &str,
) -> Result<Target, ApiError> {
    let options = connect::admitted(call, subresource, path).await?;
    if subresource != Subresource::Proxy {
        // A WebSocket begins with GET, and is no reading all the same.
        filters::authorize_as(call, Verb::Create).await?;
        return stream_target(call, subresource, &options).await;
    }
    let (state, path) = (call.state, call.path);
    let behind = match options.text_at(&["path"]) {
        behind if behind.is_empty() => "/".to_owned(),
        behind => behind,
    };
    match call.served.description.plural.as_ref() {
        "nodes" => node_target(state, path, behind).await,
        "pods" => pod_target(state, path, behind).await,
        _ => service_target(state, path, behind).await,
    }
}

pub(crate) async fn kubelet_address(state: &State, node: &str) -> Result<KubeletAddress, ApiError> {
    let object = state.read("", "nodes", &ObjectKey::cluster(node)).await?;
    let addresses = object
        .at(&["status", "addresses"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    // Hostname comes before addresses in upstream's default too, but names rarely resolve at the edge.
    let find =
        |kind: &str| addresses.iter().find(|address| address["type"] == kind)?["address"].as_str();
    let host = ["InternalIP", "ExternalIP", "Hostname"]
        .into_iter()
        .find_map(find)
        .unwrap_or(node)
        .to_owned();
    let port = object
        .at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"])
        .and_then(Value::as_u64);
    let port = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .unwrap_or(KUBELET_PORT);
    Ok(KubeletAddress {
        node: node.to_owned(),
        host,
        port,
    })
}

/// `[scheme:]name[:port]`.
fn split_name(name: &str) -> (bool, &str, &str) {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        [name] => (false, name, ""),
        [name, port] => (false, name, port),
        [scheme, name, port] => (*scheme == "https", name, port),
        _ => (false, name, ""),
    }
}

async fn node_target(
    state: &State,
    path: &ResourcePath,
    behind: String,
) -> Result<Target, ApiError> {
    let (_, name, _) = split_name(&path.name);
    let address = kubelet_address(state, name).await?;
    Ok(Target::Kubelet {
        address,
        path: behind,
    })
}

async fn read_pod(state: &State, namespace: &str, name: &str) -> Result<Object, ApiError> {
    state
        .read("", "pods", &ObjectKey::namespaced(namespace, name))
        .await
}

async fn pod_target(
    state: &State,
    path: &ResourcePath,
    behind: String,
) -> Result<Target, ApiError> {
    let (tls, name, port) = split_name(&path.name);
    let pod = read_pod(state, &path.namespace, name).await?;
    let host = pod.text_at(&["status", "podIP"]);
    if host.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let port = if port.is_empty() {
        first_port(&pod)
    } else {
        port.parse().ok().or_else(|| named_port(&pod, port))
    };
    let port = match (port, tls) {
        (Some(port), _) => port,
        (None, true) => 443,
        (None, false) => 80,
    };
    let node = Some(pod.text_at(&["spec", "nodeName"])).filter(|node| !node.is_empty());
    Ok(Target::Address {
        node,
        host,
        port,
        tls,
        path: behind,
    })
}

fn ports(pod: &Object) -> impl Iterator<Item = &Value> {
    let containers = pod
        .at(&["spec", "containers"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    containers
        .filter_map(|container| container["ports"].as_array())
        .flatten()
}

fn number(port: &Value) -> Option<u16> {
    port["containerPort"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
}

fn first_port(pod: &Object) -> Option<u16> {
    ports(pod).next().and_then(number)
}

fn named_port(pod: &Object, name: &str) -> Option<u16> {
    ports(pod)
        .find(|port| port["name"] == name)
        .and_then(number)
}

async fn service_target(
    state: &State,
    path: &ResourcePath,
    behind: String,
) -> Result<Target, ApiError> {
    let (tls, name, port) = split_name(&path.name);
    let service = state
        .read(
            "",
            "services",
            &ObjectKey::namespaced(&path.namespace, name),
        )
        .await?;
    let ports = service
        .at(&["spec", "ports"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let chosen = ports.iter().find(|candidate| {
        candidate["name"].as_str().unwrap_or_default() == port
            || candidate["port"]
                .as_u64()
                .is_some_and(|number| number.to_string() == port)
            || (port.is_empty() && ports.len() == 1)
    });
    let Some(chosen) = chosen else {
        return Err(ApiError::service_unavailable(format!(
            "no service port {port:?} found for service {name:?}"
        )));
    };
    let port_name = chosen["name"].as_str().unwrap_or_default();
    let candidates = endpoints(state, &path.namespace, name, port_name).await?;
    if candidates.is_empty() {
        return Err(ApiError::service_unavailable(format!(
            "no endpoints available for service {name:?}"
        )));
    }
    let count = u64::try_from(candidates.len()).unwrap_or(1);
    let at = usize::try_from(state.rng().below(count)).unwrap_or(0);
    let (node, host, port) = candidates[at].clone();
    Ok(Target::Address {
        node,
        host,
        port,
        tls,
        path: behind,
    })
}

/// Node, address and port of every ready endpoint of a Service's port.
async fn endpoints(
    state: &State,
    namespace: &str,
    service: &str,
    port_name: &str,
) -> Result<Vec<(Option<String>, String, u16)>, ApiError> {
    let mut found = Vec::new();
    for slice in state
        .list("discovery.k8s.io", "endpointslices", namespace)
        .await?
    {
        if slice.label("kubernetes.io/service-name") != Some(service) {
            continue;
        }
        let ports = slice
            .0
            .get("ports")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let port = ports
            .iter()
            .find(|port| port["name"].as_str().unwrap_or_default() == port_name);
        let port = port
            .and_then(|port| port["port"].as_u64())
            .and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else { continue };
        for endpoint in slice
            .0
            .get("endpoints")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if endpoint["conditions"]["ready"] == false {
                continue;
            }
            let node = endpoint["nodeName"].as_str().map(ToOwned::to_owned);
            if let Some(address) = endpoint["addresses"][0].as_str() {
                found.push((node, address.to_owned(), port));
            }
        }
    }
    Ok(found)
}

async fn log_target(call: &Call<'_>) -> Result<Target, ApiError> {
    let (path, query) = (call.path, call.query);
    check_log_options(&path.name, query)?;
    let pod = read_pod(call.state, &path.namespace, &path.name).await?;
    let asked = query.get("container").unwrap_or_default();
    let container = container_of(&pod, asked, Subresource::Log)?;
    let node = pod.text_at(&["spec", "nodeName"]);
    if node.is_empty() {
        return Ok(Target::Nothing);
    }
    let (namespace, name) = (&path.namespace, &path.name);
    let path = format!("/containerLogs/{namespace}/{name}/{container}");
    Ok(Target::Kubelet {
        address: kubelet_address(call.state, &node).await?,
        path: with_query(path, &log_options(query)),
    })
}

/// The kubelet's path for a stream of a pod; the container is checked here, in upstream's words.
async fn stream_target(
    call: &Call<'_>,
    subresource: Subresource,
    options: &Object,
) -> Result<Target, ApiError> {
    let path = call.path;
    let pod = read_pod(call.state, &path.namespace, &path.name).await?;
    let node = pod.text_at(&["spec", "nodeName"]);
    let container = match subresource {
        Subresource::PortForward => String::new(),
        _ => container_of(&pod, &options.text_at(&["container"]), subresource)?,
    };
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            path.name
        )));
    }
    let phase = pod.text_at(&["status", "phase"]);
    if subresource != Subresource::PortForward && matches!(phase.as_str(), "Succeeded" | "Failed") {
        return Err(ApiError::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let (namespace, name) = (&path.namespace, &path.name);
    let path = match subresource {
        Subresource::Exec => format!("/exec/{namespace}/{name}/{container}"),
        Subresource::Attach => format!("/attach/{namespace}/{name}/{container}"),
        _ => format!("/portForward/{namespace}/{name}"),
    };
    Ok(Target::Kubelet {
        address: kubelet_address(call.state, &node).await?,
        path: with_query(path, &connect::for_kubelet(options)),
    })
}

fn with_query(path: String, query: &str) -> String {
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

fn check_log_options(pod: &str, query: &Query) -> Result<(), ApiError> {
    let mut errors = FieldErrors::none();
    for (name, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(number) = query.number(name)?.filter(|number| *number < least) {
            errors.push(FieldError::invalid(&FieldPath::new(name), number, why));
        }
    }
    if query.text("sinceTime").is_some() && query.text("sinceSeconds").is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&FieldPath::root(), why));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(
            &GroupKind::new("", "PodLogOptions"),
            pod,
            &errors,
        ))
    }
}

/// The options of a log, which the kubelet calls the same.
fn log_options(query: &Query) -> String {
    let names = [
        "follow",
        "previous",
        "timestamps",
        "sinceSeconds",
        "sinceTime",
        "tailLines",
        "limitBytes",
        "stream",
    ];
    let told = names.iter().flat_map(|name| {
        query
            .all(name)
            .map(move |value| format!("{name}={}", encode(value, b"")))
    });
    told.collect::<Vec<_>>().join("&")
}

fn names<'a>(pod: &'a Object, list: &str) -> Vec<&'a str> {
    let containers = pod
        .at(&["spec", list])
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    containers
        .filter_map(|container| container["name"].as_str())
        .collect()
}

fn container_of(pod: &Object, asked: &str, subresource: Subresource) -> Result<String, ApiError> {
    let main = names(pod, "containers");
    let init = names(pod, "initContainers");
    let ephemeral = names(pod, "ephemeralContainers");
    let all = || main.iter().chain(&init).chain(&ephemeral);
    if !asked.is_empty() {
        return match all().find(|name| **name == asked) {
            Some(name) => Ok((*name).to_owned()),
            None => Err(ApiError::bad_request(format!(
                "container {asked} is not valid for pod {}",
                pod.name()
            ))),
        };
    }
    match main.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {}",
            pod.name()
        ))),
        several => {
            if let Some(name) = pod.annotation("kubectl.kubernetes.io/default-container")
                && subresource == Subresource::Log
                && several.contains(&name)
            {
                return Ok(name.to_owned());
            }
            let mut text = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                several.join(" ")
            );
            if !init.is_empty() {
                text.extend([" or one of the init containers: [", &init.join(" "), "]"]);
            }
            if !ephemeral.is_empty() {
                text.extend([
                    " or one of the ephemeral containers: [",
                    &ephemeral.join(" "),
                    "]",
                ]);
            }
            Err(ApiError::bad_request(text))
        }
    }
}
