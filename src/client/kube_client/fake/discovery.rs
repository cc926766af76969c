//! The resources the fake serves, and its discovery documents.

use apimachinery::{ApiError, GroupVersionResource};
use serde_json::{Value, json};

use super::State;

/// One resource of the fake.
#[derive(Clone, Debug)]
pub struct FakeResource {
    pub resource: GroupVersionResource,
    pub kind: String,
    pub is_namespaced: bool,
}

impl FakeResource {
    pub fn new(
        group: &str,
        version: &str,
        resource: &str,
        kind: &str,
        is_namespaced: bool,
    ) -> Self {
        let resource =
            GroupVersionResource::new(group.to_owned(), version.to_owned(), resource.to_owned());
        Self {
            resource,
            kind: kind.to_owned(),
            is_namespaced,
        }
    }
}

const BUILT_IN: &[(&str, &str, &str, bool)] = &[
    ("", "namespaces", "Namespace", false),
    ("", "nodes", "Node", false),
    ("", "persistentvolumes", "PersistentVolume", false),
    ("", "pods", "Pod", true),
    ("", "services", "Service", true),
    ("", "endpoints", "Endpoints", true),
    ("", "events", "Event", true),
    ("", "configmaps", "ConfigMap", true),
    ("", "secrets", "Secret", true),
    ("", "serviceaccounts", "ServiceAccount", true),
    ("", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("", "replicationcontrollers", "ReplicationController", true),
    ("", "resourcequotas", "ResourceQuota", true),
    ("apps", "deployments", "Deployment", true),
    ("apps", "replicasets", "ReplicaSet", true),
    ("apps", "statefulsets", "StatefulSet", true),
    ("apps", "daemonsets", "DaemonSet", true),
    ("apps", "controllerrevisions", "ControllerRevision", true),
    ("batch", "jobs", "Job", true),
    ("batch", "cronjobs", "CronJob", true),
    (
        "policy",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        true,
    ),
    ("discovery.k8s.io", "endpointslices", "EndpointSlice", true),
    ("coordination.k8s.io", "leases", "Lease", true),
    (
        "certificates.k8s.io",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        false,
    ),
    (
        "rbac.authorization.k8s.io",
        "clusterroles",
        "ClusterRole",
        false,
    ),
    (
        "scheduling.k8s.io",
        "priorityclasses",
        "PriorityClass",
        false,
    ),
];

pub(super) fn built_in() -> Vec<FakeResource> {
    let row = |&(group, resource, kind, is_namespaced): &(&str, &str, &str, bool)| {
        FakeResource::new(group, "v1", resource, kind, is_namespaced)
    };
    BUILT_IN.iter().map(row).collect()
}

/// Answers `/api`, `/apis`, `/api/v1` and `/apis/<group>/<version>`.
pub(super) fn serve(state: &State, segments: &[&str]) -> Result<Value, ApiError> {
    match segments {
        ["api"] => Ok(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => Ok(groups(state)),
        ["api", version] => resources(state, "", version),
        ["apis", group, version] => resources(state, group, version),
        _ => Err(ApiError::no_such_path()),
    }
}

fn groups(state: &State) -> Value {
    let mut groups: Vec<(&str, &str)> = state
        .resources
        .iter()
        .filter(|row| !row.resource.group.is_empty())
        .map(|row| (&*row.resource.group, &*row.resource.version))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|(group, version)| {
            let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
            json!({"name": group, "versions": [version], "preferredVersion": version})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(state: &State, group: &str, version: &str) -> Result<Value, ApiError> {
    let verbs = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    let rows: Vec<Value> = state
        .resources
        .iter()
        .filter(|row| row.resource.group == group && row.resource.version == version)
        .map(|row| {
            json!({
                "name": row.resource.resource, "kind": row.kind, "namespaced": row.is_namespaced,
                "singularName": row.kind.to_lowercase(), "verbs": verbs,
            })
        })
        .collect();
    if rows.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}),
    )
}
