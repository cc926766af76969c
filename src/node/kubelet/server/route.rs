//! Paths of the kubelet's server, and which rights they need (KEP-2862).

use std::borrow::Cow;

use crate::server::access::Attributes;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Pods,
    RunningPods,
    ContainerLogs(ContainerPath),
    Exec(ContainerPath),
    Attach(ContainerPath),
    Run(ContainerPath),
    PortForward(PodPath),
    StatsSummary,
    Metrics,
    ResourceMetrics,
    ProbeMetrics,
    ContainerMetrics,
    Configz,
    /// Known and refused: node logs, checkpoints.
    Refused(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPath {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerPath {
    pub(crate) pod: PodPath,
    pub(crate) container: String,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<Cow<'_, str>> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        Some(match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Self::Health,
            ["pods"] => Self::Pods,
            ["runningpods"] => Self::RunningPods,
            ["containerLogs", rest @ ..] => Self::ContainerLogs(container(rest)?),
            ["exec", rest @ ..] => Self::Exec(container(rest)?),
            ["attach", rest @ ..] => Self::Attach(container(rest)?),
            ["run", rest @ ..] => Self::Run(container(rest)?),
            ["portForward", rest @ ..] => Self::PortForward(pod(rest)?),
            ["stats", "summary"] => Self::StatsSummary,
            ["metrics"] => Self::Metrics,
            ["metrics", "resource"] => Self::ResourceMetrics,
            ["metrics", "probes"] => Self::ProbeMetrics,
            ["metrics", "cadvisor"] => Self::ContainerMetrics,
            ["configz"] => Self::Configz,
            ["logs", ..] => Self::Refused("logs of the node are not served"),
            ["checkpoint", ..] => {
                Self::Refused("checkpoints of containers are not supported by this node")
            }
            _ => return None,
        })
    }
}

fn pod(parts: &[&str]) -> Option<PodPath> {
    let (namespace, name, uid) = match parts {
        [namespace, name] => (namespace, name, None),
        [namespace, name, uid] => (namespace, name, Some((*uid).to_owned())),
        _ => return None,
    };
    Some(PodPath {
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
        uid,
    })
}

fn container(parts: &[&str]) -> Option<ContainerPath> {
    let (container, rest) = parts.split_last()?;
    Some(ContainerPath {
        pod: pod(rest)?,
        container: (*container).to_owned(),
    })
}

fn decode(part: &str) -> Cow<'_, str> {
    if !part.contains('%') {
        return Cow::Borrowed(part);
    }
    Cow::Owned(percent_decode(part, false))
}

/// Percent-decoding; in a query `+` is a space. Broken escapes stay as they are.
pub(crate) fn percent_decode(text: &str, is_query: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match (
            bytes[at],
            hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) if is_query => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The parameters of a query, in order.
pub(crate) fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name, true), percent_decode(value, true))
        })
        .collect()
}

/// The rights of which one is enough, the finest first.
pub(crate) fn needed(node_name: &str, method: &http::Method, path: &str) -> Vec<Attributes> {
    let verb = match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    };
    let first = path
        .split('/')
        .find(|part| !part.is_empty())
        .unwrap_or_default();
    let subresources: &[&'static str] = match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" | "livez" | "readyz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    };
    subresources
        .iter()
        .map(|subresource| Attributes {
            node_name: node_name.to_owned(),
            verb,
            subresource,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_is_optional_and_the_finest_right_is_asked_first() {
        let Some(Route::Exec(path)) = Route::parse("/exec/ns/pod/uid/app") else {
            panic!("an exec")
        };
        assert_eq!(
            (path.pod.uid.as_deref(), path.container.as_str()),
            (Some("uid"), "app")
        );
        assert_eq!(Route::parse("/exec/ns"), None);
        let rights = needed("n", &http::Method::GET, "/pods");
        assert_eq!(
            rights
                .iter()
                .map(|right| right.subresource)
                .collect::<Vec<_>>(),
            ["pods", "proxy"]
        );
        assert_eq!(
            needed("n", &http::Method::POST, "/exec/a/b/c")[0].verb,
            "create"
        );
        assert_eq!(
            parameters("command=a+b&command=%2Fc"),
            [
                ("command".into(), "a b".into()),
                ("command".into(), "/c".into())
            ]
        );
    }
}
