//! Facts of a pod as texts, for environment variables and downward API files: field paths and container resources.

use std::collections::BTreeMap;
use std::net::IpAddr;

use apimachinery::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::resources::{Amounts, container_limits, container_requests};

/// What the pod object itself does not say.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The node's addresses, primary first.
    pub host_ips: Vec<IpAddr>,
    /// The pod's addresses, primary first; they may be newer than the pod's status.
    pub pod_ips: Vec<IpAddr>,
    /// What a container that has no limit may use.
    pub allocatable: Amounts,
}

/// The text of a field path, as `valueFrom.fieldRef` and downward API volumes name it. The error is for the user.
pub fn field(pod: &Pod, path: &str, facts: &NodeFacts) -> Result<String, String> {
    let metadata = &pod.metadata;
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "metadata.labels" => Ok(format_map(metadata.labels.as_ref())),
        "metadata.annotations" => Ok(format_map(metadata.annotations.as_ref())),
        "spec.nodeName" => Ok(spec
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default()),
        "spec.serviceAccountName" => Ok(spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default()),
        "status.hostIP" => Ok(facts
            .host_ips
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()),
        "status.hostIPs" => Ok(join(&facts.host_ips)),
        "status.podIP" => Ok(facts
            .pod_ips
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()),
        "status.podIPs" => Ok(join(&facts.pod_ips)),
        _ => Err(format!("unsupported fieldPath: {path}")),
    }
}

/// The text of a `resourceFieldRef`. `own` is the container that asks, for references that name none.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &NodeFacts,
) -> Result<String, String> {
    let named = selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let container = match named {
        None => own.ok_or("a resourceFieldRef of a volume must name a container")?,
        Some(name) => {
            let spec = pod.spec.as_ref();
            let all = spec.into_iter().flat_map(|spec| {
                spec.containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten())
            });
            all.into_iter()
                .find(|container| container.name == name)
                .ok_or_else(|| format!("container {name} not found"))?
        }
    };
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|divisor| Quantity::parse(&divisor.0).ok());
    let divisor = divisor
        .filter(|divisor| !divisor.is_zero())
        .unwrap_or(Quantity::from_units(1));
    let (list, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let amount = match list {
        "limits" => container_limits(container)
            .get(name)
            .or_else(|| facts.allocatable.get(name))
            .copied(),
        "requests" => container_requests(container).get(name).copied(),
        _ => {
            return Err(format!(
                "unsupported container resource : {}",
                selector.resource
            ));
        }
    };
    Ok(divide(amount.unwrap_or(Quantity::ZERO), divisor, name == "cpu").to_string())
}

/// Rounded up to whole divisors; cpu may be divided into thousandths.
fn divide(amount: Quantity, divisor: Quantity, is_cpu: bool) -> i64 {
    let (amount, divisor) = if is_cpu {
        (amount.millis(), divisor.millis())
    } else {
        (amount.units(), divisor.units())
    };
    if divisor == 0 {
        0
    } else {
        (amount + divisor - 1) / divisor
    }
}

/// `metadata.labels['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="escaped value"` lines in the order of the keys.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    lines.join("\n")
}

/// A text in double quotes as Go's `%q` writes it.
fn quote(text: &str) -> String {
    use std::fmt::Write;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                // Writing to a String cannot fail.
                let _written = write!(quoted, "\\x{:02x}", control as u32);
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn join(addresses: &[IpAddr]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "labels": {"x": "1", "y": "a\"b"}},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}}]}
        }))
        .expect("a pod")
    }

    #[test]
    fn a_map_is_sorted_lines_with_quoted_values_and_a_subscript_is_one_value() {
        let facts = NodeFacts::default();
        assert_eq!(
            field(&pod(), "metadata.labels", &facts).unwrap(),
            "x=\"1\"\ny=\"a\\\"b\""
        );
        assert_eq!(field(&pod(), "metadata.labels['x']", &facts).unwrap(), "1");
    }

    #[test]
    fn amounts_round_up_to_the_divisor_and_limits_default_to_allocatable() {
        let facts = NodeFacts {
            allocatable: [("cpu".to_owned(), Quantity::from_units(4))].into(),
            ..NodeFacts::default()
        };
        let pod = pod();
        let own = &pod.spec.as_ref().unwrap().containers[0];
        let text = |json| {
            resource(
                &pod,
                Some(own),
                &serde_json::from_value(json).unwrap(),
                &facts,
            )
            .unwrap()
        };
        assert_eq!(text(json!({"resource": "requests.cpu"})), "1");
        assert_eq!(
            text(json!({"resource": "requests.cpu", "divisor": "1m"})),
            "250"
        );
        assert_eq!(
            text(json!({"resource": "requests.memory", "divisor": "1Mi"})),
            "64"
        );
        assert_eq!(text(json!({"resource": "limits.cpu"})), "4");
    }
}
