//! Nodes of `v1`.

use super::node_validation;
use crate::validation::addresses::unusual_cidr;
use crate::validation::text;
use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeSystemInfo};
use serde_json::Value;

use crate::cells;
use crate::{Column, SelectableField, StatusOnCreate, Strategy, Subresource};

/// The range and the first of the ranges are one thing, told twice.
fn one_first_range(spec: &mut NodeSpec) {
    let first = spec
        .pod_cidrs
        .as_ref()
        .and_then(|ranges| ranges.first())
        .cloned();
    match (
        spec.pod_cidr.clone().filter(|range| !range.is_empty()),
        first,
    ) {
        (None, Some(first)) => spec.pod_cidr = Some(first),
        (Some(range), first) if first.as_ref() != Some(&range) => {
            spec.pod_cidrs = Some(vec![range]);
        }
        _ => {}
    }
}

/// Objects of kind `Node`.
#[derive(Debug)]
pub struct Nodes;

impl Strategy for Nodes {
    type Kind = Node;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Status", |node, _| readiness(node).into()),
        Column::text("Roles", |node, _| {
            cells::text_or(Some(&roles(node)), cells::NONE)
        }),
        Column::age(),
        Column::text("Version", |node, _| {
            info(node, |info| &info.kubelet_version).into()
        }),
        Column::wide_text("Internal-IP", |node, _| address(node, "InternalIP")),
        Column::wide_text("External-IP", |node, _| address(node, "ExternalIP")),
        Column::wide_text("OS-Image", |node, _| {
            cells::text_or(Some(info(node, |info| &info.os_image)), cells::UNKNOWN)
        }),
        Column::wide_text("Kernel-Version", |node, _| kernel(node).into()),
        Column::wide_text("Container-Runtime", |node, _| {
            cells::text_or(
                Some(info(node, |info| &info.container_runtime_version)),
                cells::UNKNOWN,
            )
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["no"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const STATUS_ON_CREATE: StatusOnCreate = StatusOnCreate::Kept;
    const HEARTBEATS: &'static [&'static [&'static str]] =
        &[&["status", "conditions", "*", "lastHeartbeatTime"]];
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[SelectableField::with_fallback(
        "spec.unschedulable",
        &["spec.unschedulable"],
        "false",
    )];

    fn default(node: &mut Node) {
        if let Some(spec) = &mut node.spec {
            one_first_range(spec);
        }
        if let Some(status) = &mut node.status
            && status.allocatable.is_none()
        {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_for_create(node: &mut Node) {
        // What was once dynamic kubelet configuration; the fields stand, nobody reads them.
        if let Some(spec) = &mut node.spec {
            spec.config_source = None;
        }
        if let Some(status) = &mut node.status {
            status.config = None;
        }
    }

    fn prepare_for_update(node: &mut Node, old: &Node) {
        if old
            .spec
            .as_ref()
            .is_none_or(|spec| spec.config_source.is_none())
        {
            node.spec
                .iter_mut()
                .for_each(|spec| spec.config_source = None);
        }
    }

    fn validate(node: &Node) -> FieldErrors {
        node_validation::validate(node)
    }

    fn validate_update(node: &Node, old: &Node) -> FieldErrors {
        node_validation::validate_change(node, old)
    }

    fn validate_status_update(node: &Node, old: &Node) -> FieldErrors {
        node_validation::validate_change(node, old)
    }

    fn warnings(node: &Node) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(spec) = &node.spec else {
            return warnings;
        };
        let path = FieldPath::new("spec");
        if spec.config_source.is_some() {
            warnings.push(format!(
                "{}: the feature is removed",
                path.child("configSource")
            ));
        }
        if !text(&spec.external_id).is_empty() {
            warnings.push(format!(
                "{}: this field is deprecated, and is unused by Kubernetes",
                path.child("externalID")
            ));
        }
        for (index, range) in spec.pod_cidrs.iter().flatten().enumerate() {
            warnings.extend(unusual_cidr(range, &path.child("podCIDRs").index(index)));
        }
        warnings
    }
}

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

fn readiness(node: &Node) -> String {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ready = match conditions
        .iter()
        .rfind(|condition| condition.type_ == "Ready")
    {
        Some(condition) if condition.status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    format!(
        "{ready}{}",
        if unschedulable {
            ",SchedulingDisabled"
        } else {
            ""
        }
    )
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn info(node: &Node, field: fn(&NodeSystemInfo) -> &String) -> &str {
    node.status
        .as_ref()
        .and_then(|status| status.node_info.as_ref())
        .map_or("", |info| field(info).as_str())
}

fn kernel(node: &Node) -> String {
    let version = info(node, |info| &info.kernel_version);
    let version = if version.is_empty() {
        cells::UNKNOWN
    } else {
        version
    };
    match info(node, |info| &info.architecture) {
        "" => version.to_owned(),
        architecture => format!("{version} ({architecture})"),
    }
}

fn address(node: &Node, kind: &str) -> Value {
    let addresses = node
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    addresses
        .iter()
        .find(|address| address.type_ == kind)
        .map_or(cells::NONE.into(), |address| address.address.clone().into())
}
