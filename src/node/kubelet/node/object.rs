//! The Node object as this kubelet wants it: pure functions from facts of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cri::Image;
use env::Timestamp;
use semantics::resources::Amounts;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::node::memory_limits;
use crate::node::{Capacity, Pressure};

/// Images that the status lists, the largest first.
const IMAGES_MAX: usize = 50;
const NAMES_PER_IMAGE_MAX: usize = 5;

/// What does not change while the kubelet runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel_version: String,
    pub(crate) os_image: String,
    /// `<name>://<version>`.
    pub(crate) runtime_version: String,
}

impl NodeFacts {
    pub(crate) fn read(config: &Config, runtime: &cri::RuntimeVersion) -> Self {
        let file = |path: &str| {
            std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        };
        let boot_id = if config.boot_id.is_empty() {
            file("/proc/sys/kernel/random/boot_id")
        } else {
            config.boot_id.clone()
        };
        Self {
            machine_id: file("/etc/machine-id"),
            system_uuid: file("/sys/class/dmi/id/product_uuid"),
            boot_id,
            kernel_version: file("/proc/sys/kernel/osrelease"),
            os_image: os_image(&file("/etc/os-release")),
            runtime_version: format!("{}://{}", runtime.name, runtime.version),
        }
    }
}

fn os_image(os_release: &str) -> String {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(
        || "Unknown".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

/// Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Labels that the kubelet keeps on its node.
pub(crate) fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    labels.extend(config.node_labels.clone());
    labels
}

/// The object a node registers with.
pub(crate) fn new_node(config: &Config) -> Value {
    let taints: Vec<Value> = config
        .register_taints
        .iter()
        .filter_map(|taint| parse_taint(taint))
        .collect();
    let mut annotations = config.node_annotations.clone();
    let by_controller = "volumes.kubernetes.io/controller-managed-attach-detach";
    annotations.insert(by_controller.to_owned(), "true".to_owned());
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": labels(config),
            "annotations": annotations
        },
        "spec": if taints.is_empty() { json!({}) } else { json!({"taints": taints}) }
    })
}

/// `key=value:Effect` or `key:Effect`.
fn parse_taint(text: &str) -> Option<Value> {
    let (head, effect) = text.rsplit_once(':')?;
    let (key, value) = head.split_once('=').unwrap_or((head, ""));
    let mut taint = json!({"key": key, "effect": effect});
    if !value.is_empty() {
        taint["value"] = value.into();
    }
    Some(taint)
}

/// The labels that must be patched in, or `None`.
pub(crate) fn label_patch(config: &Config, has: &Value) -> Option<Value> {
    let missing: Map<String, Value> = labels(config)
        .into_iter()
        .filter(|(key, value)| has["metadata"]["labels"][key].as_str() != Some(value))
        .map(|(key, value)| (key, value.into()))
        .collect();
    (!missing.is_empty()).then(|| json!({"metadata": {"labels": missing}}))
}

/// What a status depends on beside the facts.
pub(crate) struct StatusInputs<'a> {
    pub(crate) config: &'a Config,
    pub(crate) facts: &'a NodeFacts,
    pub(crate) capacity: &'a Capacity,
    pub(crate) images: &'a [Image],
    pub(crate) pressure: &'a BTreeSet<Pressure>,
    /// The port of the kubelet's server.
    pub(crate) port: u16,
    pub(crate) now: Timestamp,
}

/// The kubelet's part of `status`. Capacities that others put there are not in it, so they stay.
pub(crate) fn status(inputs: &StatusInputs<'_>, old: &Value) -> Value {
    let facts = inputs.facts;
    json!({
        "capacity": amounts(&inputs.capacity.capacity),
        "allocatable": amounts(&inputs.capacity.allocatable),
        "addresses": addresses(inputs.config),
        "conditions": conditions(inputs, old),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": inputs.port}},
        "images": images(inputs.images),
        "features": {"supplementalGroupsPolicy": true},
        "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": true, "userNamespaces": true}}],
        "nodeInfo": {
            "machineID": facts.machine_id,
            "systemUUID": facts.system_uuid,
            "bootID": facts.boot_id,
            "kernelVersion": facts.kernel_version,
            "osImage": facts.os_image,
            "containerRuntimeVersion": facts.runtime_version,
            "kubeletVersion": inputs.config.kubelet_version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": architecture()
        }
    })
}

fn amounts(amounts: &Amounts) -> Value {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.to_string().into()))
        .collect::<Map<String, Value>>()
        .into()
}

fn addresses(config: &Config) -> Value {
    let address = |kind: &str, ip: &IpAddr| json!({"type": kind, "address": ip.to_string()});
    let internal = config.addresses_now();
    let internal = internal.iter().map(|ip| address("InternalIP", ip));
    let external = &config.node_external_addresses;
    let external = external.iter().map(|ip| address("ExternalIP", ip));
    let mut all: Vec<Value> = internal.chain(external).collect();
    all.push(json!({"type": "Hostname", "address": config.node_name}));
    all.into()
}

fn images(images: &[Image]) -> Value {
    let mut sorted: Vec<&Image> = images
        .iter()
        .filter(|image| !image.repo_tags.is_empty() || !image.repo_digests.is_empty())
        .collect();
    sorted.sort_by(|left, right| (right.size_bytes, &left.id).cmp(&(left.size_bytes, &right.id)));
    let told = sorted.into_iter().take(IMAGES_MAX).map(|image| {
        let names: Vec<&String> = image
            .repo_digests
            .iter()
            .chain(&image.repo_tags)
            .take(NAMES_PER_IMAGE_MAX)
            .collect();
        json!({"names": names, "sizeBytes": image.size_bytes})
    });
    told.collect()
}

/// Type, what it means when true and when false: reason and message.
const CONDITIONS: [(Pressure, &str, [&str; 2], [&str; 2]); 3] = [
    (
        Pressure::Memory,
        "MemoryPressure",
        [
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        ],
        [
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ],
    ),
    (
        Pressure::Disk,
        "DiskPressure",
        ["KubeletHasDiskPressure", "kubelet has disk pressure"],
        ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
    ),
    (
        Pressure::Pid,
        "PIDPressure",
        [
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
        ],
        [
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ],
    ),
];

fn conditions(inputs: &StatusInputs<'_>, old: &Value) -> Value {
    let now = inputs.now.to_seconds_string();
    let make = |kind: &str, status: &str, reason: &str, message: &str| {
        let before = old["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|condition| condition["type"] == kind));
        let since = before
            .filter(|before| before["status"] == status)
            .and_then(|before| before["lastTransitionTime"].as_str());
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since.unwrap_or(&now)})
    };
    let mut all: Vec<Value> = CONDITIONS
        .iter()
        .map(|(pressure, kind, bad, good)| {
            let is_bad = inputs.pressure.contains(pressure);
            let [reason, message] = if is_bad { bad } else { good };
            make(kind, if is_bad { "True" } else { "False" }, reason, message)
        })
        .collect();
    if let Some([status, reason, message]) = inputs.config.memory_limits.condition(old) {
        all.push(make(memory_limits::CONDITION, status, reason, message));
    }
    all.push(match &*inputs.config.network_fault.borrow() {
        None => make(
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status",
        ),
        // Upstream's words: people and programs look for them.
        Some(fault) => {
            let why = format!(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                 message:Network plugin returns error: {fault}"
            );
            make("Ready", "False", "KubeletNotReady", &why)
        }
    });
    all.into()
}

/// The strategic merge patch to the wanted status; `None` when only heartbeats differ.
pub(crate) fn status_patch(old: &Value, wanted: &Value) -> Option<Value> {
    let mut patch = Map::new();
    let mut changed = false;
    for (field, value) in wanted.as_object().into_iter().flatten() {
        match field.as_str() {
            "conditions" => {
                changed |=
                    without_heartbeats(&old[field], value) != without_heartbeats(value, value);
                patch.insert(field.clone(), value.clone());
            }
            "capacity" | "allocatable" => {
                let differ: Map<String, Value> = value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(name, amount)| old[field][*name] != **amount)
                    .map(|(name, amount)| (name.clone(), amount.clone()))
                    .collect();
                if !differ.is_empty() {
                    changed = true;
                    patch.insert(field.clone(), differ.into());
                }
            }
            "addresses" if old[field] != *value => {
                changed = true;
                let mut list = value.as_array().cloned().unwrap_or_default();
                // Two addresses may have one type, which is the key of the merge: the whole list is replaced.
                if old[field].as_array().is_some_and(|old| !old.is_empty()) {
                    list.push(json!({"$patch": "replace"}));
                }
                patch.insert(field.clone(), list.into());
            }
            _ if old[field] != *value => {
                changed = true;
                patch.insert(field.clone(), value.clone());
            }
            _ => {}
        }
    }
    changed.then(|| json!({"status": patch}))
}

/// The conditions of `list` that are among `ours`, without the time of their last heartbeat.
fn without_heartbeats(list: &Value, ours: &Value) -> BTreeMap<String, Value> {
    let kinds: BTreeSet<&str> = ours
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|condition| condition["type"].as_str())
        .collect();
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|condition| {
        let kind = condition["type"]
            .as_str()
            .filter(|kind| kinds.contains(kind))?;
        let mut condition = condition.clone();
        condition.as_object_mut()?.remove("lastHeartbeatTime");
        Some((kind.to_owned(), condition))
    })
    .collect()
}

/// The heartbeat alone, for when nothing else has changed for long.
pub(crate) fn heartbeat_patch(wanted: &Value) -> Value {
    json!({"status": {"conditions": wanted["conditions"]}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::memory_limits::MemoryLimits;
    use tokio::sync::watch;

    fn wanted(old: &Value, seconds: i64) -> Value {
        wanted_with(MemoryLimits::Enforced, old, seconds)
    }

    fn wanted_with(memory_limits: MemoryLimits, old: &Value, seconds: i64) -> Value {
        let mut config = Config::new("n", "/nonexistent");
        config.memory_limits = memory_limits;
        config.node_addresses = watch::channel(vec!["10.0.0.1".parse().unwrap()]).1;
        config.node_external_addresses = vec!["192.0.2.1".parse().unwrap()];
        let amounts: Amounts = [("cpu".to_owned(), apimachinery::Quantity::from_units(4))].into();
        let capacity = Capacity {
            capacity: amounts.clone(),
            allocatable: amounts,
        };
        let inputs = StatusInputs {
            config: &config,
            facts: &NodeFacts::default(),
            capacity: &capacity,
            images: &[],
            pressure: &BTreeSet::new(),
            port: 10250,
            now: Timestamp::from_unix_seconds(seconds),
        };
        status(&inputs, old)
    }

    #[test]
    fn a_node_tells_where_it_is_reached_from_inside_and_from_outside() {
        let addresses = wanted(&Value::Null, 0)["addresses"].clone();
        let expected = json!([
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "ExternalIP", "address": "192.0.2.1"},
            {"type": "Hostname", "address": "n"}]);
        assert_eq!(addresses, expected);
    }

    #[test]
    fn limits_that_nothing_enforces_are_told_until_they_are_enforced() {
        let find = |status: &Value| {
            let all = status["conditions"].as_array().unwrap();
            let mut told = all.iter();
            told.find(|one| one["type"] == memory_limits::CONDITION)
                .cloned()
        };
        assert_eq!(find(&wanted(&Value::Null, 0)), None);
        let without = wanted_with(MemoryLimits::NotEnforced, &Value::Null, 0);
        let told = find(&without).unwrap();
        assert_eq!(told["status"], "True");
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("cmdline.txt") && message.contains("cgroup_memory=1"));
        assert_eq!(find(&wanted(&without, 10)).unwrap()["status"], "False");
    }

    #[test]
    fn foreign_capacities_are_kept_and_a_heartbeat_alone_is_no_change() {
        let mut old = wanted(&Value::Null, 0);
        old["capacity"]["example.com/foo"] = "3".into();
        assert_eq!(status_patch(&old, &wanted(&old, 10)), None);
        old["capacity"]["cpu"] = "2".into();
        let patch = status_patch(&old, &wanted(&old, 10)).unwrap();
        assert_eq!(patch["status"]["capacity"], json!({"cpu": "4"}));
        assert_eq!(
            wanted(&old, 10)["conditions"][3]["lastTransitionTime"],
            "1970-01-01T00:00:00Z"
        );
    }
}
