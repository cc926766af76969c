//! Facts of one pod's spec, each said once.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use semantics::containers::as_container;
use semantics::resources::is_sidecar;

/// Where a container stands in the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ContainerKind {
    Init,
    Regular,
    Ephemeral,
}

/// `metadata.annotations` of static pods and their mirrors.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
pub(crate) const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
    pod.spec
        .as_ref()
        .unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`: how upstream's messages name a pod.
pub(crate) fn title(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub(crate) fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

pub(crate) fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

pub(crate) fn is_critical(pod: &Pod) -> bool {
    const SYSTEM_CRITICAL: i32 = 2_000_000_000;
    is_static(pod)
        || spec(pod)
            .priority
            .is_some_and(|priority| priority >= SYSTEM_CRITICAL)
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

pub(crate) fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod)
        .ephemeral_containers
        .as_deref()
        .unwrap_or_default()
}

/// The container of a name, wherever it stands.
pub(crate) fn find_container(pod: &Pod, name: &str) -> Option<(ContainerKind, Container)> {
    let named = |kind, found: Option<&Container>| found.map(|container| (kind, container.clone()));
    named(
        ContainerKind::Regular,
        containers(pod)
            .iter()
            .find(|container| container.name == name),
    )
    .or_else(|| {
        named(
            ContainerKind::Init,
            init_containers(pod)
                .iter()
                .find(|container| container.name == name),
        )
    })
    .or_else(|| {
        let found = ephemeral_containers(pod)
            .iter()
            .find(|container| container.name == name)?;
        Some((ContainerKind::Ephemeral, as_container(found)))
    })
}

/// Whether a container that ended with `code` runs again: its own rules first, then its own policy, then the pod's (KEP-5307).
pub(crate) fn restarts_after(container: &Container, spec: &PodSpec, code: i32) -> bool {
    if let Some(own) = container.restart_policy.as_deref() {
        if matching_rule(container, code).is_some() {
            return true;
        }
        return restarts(own, code);
    }
    restarts(spec.restart_policy.as_deref().unwrap_or("Always"), code)
}

/// The action of the first `restartPolicyRules` entry that matches the exit code.
pub(crate) fn matching_rule(container: &Container, code: i32) -> Option<&str> {
    let rule = container
        .restart_policy_rules
        .iter()
        .flatten()
        .find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let named = codes
                    .values
                    .as_ref()
                    .is_some_and(|values| values.contains(&code));
                match codes.operator.as_str() {
                    "In" => named,
                    "NotIn" => !named,
                    _ => false,
                }
            })
        })?;
    Some(&rule.action)
}

/// Whether a running container that is killed because it is unhealthy is started again.
pub(crate) fn restarts_when_killed(container: &Container, spec: &PodSpec) -> bool {
    let policy = container
        .restart_policy
        .as_deref()
        .or(spec.restart_policy.as_deref());
    policy != Some("Never")
}

fn restarts(policy: &str, code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Containers whose end a pod waits for: the regular ones. Sidecars only accompany them.
pub(crate) fn is_accompanying(kind: ContainerKind, container: &Container) -> bool {
    kind == ContainerKind::Init && is_sidecar(container)
}

pub(crate) fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_containers_own_rules_overrule_its_policy_which_overrules_the_pods() {
        let spec: PodSpec =
            serde_json::from_value(json!({"restartPolicy": "Always", "containers": []})).unwrap();
        let container: Container = serde_json::from_value(json!({"name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}))
        .unwrap();
        assert!(restarts_after(&container, &spec, 42));
        assert!(!restarts_after(&container, &spec, 1));
        let plain = Container {
            name: "b".into(),
            ..Container::default()
        };
        assert!(restarts_after(&plain, &spec, 0));
    }
}
