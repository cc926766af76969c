//! TaintNodesByCondition: a new node takes no pods until it is known to be ready.

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{AdmissionRequest, Operation, Plugin};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[derive(Debug)]
pub(crate) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !request.is_for("", "nodes") || request.operation != Operation::Create {
            return Ok(());
        }
        let Some(node) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let mut taints = node
            .at(&["spec", "taints"])
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let is_there = taints
            .iter()
            .any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule");
        if !is_there {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            node.set_at(&["spec", "taints"], taints.into());
        }
        Ok(())
    }
}
