//! Nodes of `v1`.

use k8s_openapi::api::core::v1::Node;

use crate::{SelectableField, StatusOnCreate, Strategy, Subresource};

/// Objects of kind `Node`.
#[derive(Debug)]
pub struct Nodes;

impl Strategy for Nodes {
    type Kind = Node;
    const SHORT_NAMES: &'static [&'static str] = &["no"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const STATUS_ON_CREATE: StatusOnCreate = StatusOnCreate::Kept;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::with_fallback("spec.unschedulable", &["spec.unschedulable"], "false"),
    ];

    fn default(node: &mut Node) {
        if let Some(status) = &mut node.status {
            if status.allocatable.is_none() {
                status.allocatable.clone_from(&status.capacity);
            }
        }
    }
}
