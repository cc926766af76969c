//! What exec, attach, port-forward and proxy pass before anything is connected: their options are read as an object, and
//! admission plugins see it.

use apimachinery::{ApiError, GroupVersionKind, Object};
use registry::Subresource;
use serde_json::{Map, Value};

use crate::admit;
use crate::call::Call;
use crate::query::{Query, encode};

const STREAM_FLAGS: &[&str] = &["stdin", "stdout", "stderr", "tty"];

/// The options of the connection, as plugins left them.
pub(crate) async fn admitted(
    call: &Call<'_>,
    subresource: Subresource,
    path: &str,
) -> Result<Object, ApiError> {
    if call.query.get("dryRun").is_some() {
        return Err(ApiError::bad_request("dryRun is not supported"));
    }
    let kind = kind(subresource, &call.served.description.plural);
    let mut options = registry::empty_object(&kind);
    options.0.extend(read(subresource, call, path)?);
    admit::connect(call, &kind, &mut options).await?;
    Ok(options)
}

fn kind(subresource: Subresource, plural: &str) -> GroupVersionKind {
    let name = match (subresource, plural) {
        (Subresource::Exec, _) => "PodExecOptions",
        (Subresource::Attach, _) => "PodAttachOptions",
        (Subresource::PortForward, _) => "PodPortForwardOptions",
        (_, "nodes") => "NodeProxyOptions",
        (_, "services") => "ServiceProxyOptions",
        _ => "PodProxyOptions",
    };
    GroupVersionKind::new("", "v1", name)
}

fn read(
    subresource: Subresource,
    call: &Call<'_>,
    path: &str,
) -> Result<Map<String, Value>, ApiError> {
    let query = call.query;
    match subresource {
        Subresource::Exec => {
            let command: Vec<&str> = query.all("command").collect();
            let mut options = stream(query);
            let none = command.is_empty();
            options.insert(
                "command".to_owned(),
                if none { Value::Null } else { command.into() },
            );
            Ok(options)
        }
        Subresource::Attach => Ok(stream(query)),
        Subresource::PortForward => ports(query),
        _ => Ok(text("path", &proxied(call, path))),
    }
}

fn text(field: &str, value: &str) -> Map<String, Value> {
    let value = Some(value).filter(|value| !value.is_empty());
    value
        .map(|value| (field.to_owned(), Value::from(value)))
        .into_iter()
        .collect()
}

fn stream(query: &Query) -> Map<String, Value> {
    let flags = STREAM_FLAGS.iter().filter(|flag| query.flag(flag));
    let mut options: Map<String, Value> = flags
        .map(|flag| ((*flag).to_owned(), true.into()))
        .collect();
    options.extend(text(
        "container",
        query.get("container").unwrap_or_default(),
    ));
    options
}

/// Ports may be told one by one or as a list.
fn ports(query: &Query) -> Result<Map<String, Value>, ApiError> {
    let told = query.all("ports").flat_map(|told| told.split(','));
    let ports = told
        .map(|port| {
            let why = match port.parse::<u64>() {
                Ok(number) if u16::try_from(number).is_ok() => return Ok(Value::from(number)),
                Err(error) if *error.kind() != std::num::IntErrorKind::PosOverflow => {
                    "invalid syntax"
                }
                _ => "value out of range",
            };
            Err(ApiError::bad_request(format!(
                "cannot convert to []int32: strconv.ParseUint: parsing {port:?}: {why}"
            )))
        })
        .collect::<Result<Vec<Value>, ApiError>>()?;
    if ports.is_empty() {
        return Ok(Map::new());
    }
    Ok([("ports".to_owned(), ports.into())].into_iter().collect())
}

/// The path behind the proxy, with the slashes that the client wrote.
fn proxied(call: &Call<'_>, path: &str) -> String {
    let mut proxied = call.path.rest.clone();
    if !proxied.is_empty() && !proxied.starts_with('/') {
        proxied.insert(0, '/');
    }
    if path.ends_with('/') && !proxied.ends_with('/') {
        proxied.push('/');
    }
    proxied
}

/// The options in the kubelet's names, as a query.
pub(crate) fn for_kubelet(options: &Object) -> String {
    let flags = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    let flags = flags
        .into_iter()
        .filter(|(field, _)| options.0.get(*field) == Some(&Value::Bool(true)))
        .map(|(_, kubelets)| format!("{kubelets}=1"));
    let items = |field: &str| options.0.get(field).and_then(Value::as_array);
    let command = items("command").into_iter().flatten();
    let command = command
        .filter_map(Value::as_str)
        .map(|argument| format!("command={}", encode(argument, b"")));
    let mut parts: Vec<String> = flags.chain(command).collect();
    if let Some(ports) = items("ports").filter(|ports| !ports.is_empty()) {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        parts.push(format!("port={}", encode(&ports.join(","), b"")));
    }
    parts.join("&")
}
