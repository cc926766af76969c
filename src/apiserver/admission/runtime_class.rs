//! RuntimeClass: a pod's overhead and scheduling constraints come from its runtime class, which must exist.

use std::sync::Arc;

use apimachinery::{ApiError, Object, ObjectKey};
use async_trait::async_trait;
use auth::Objects;
use serde_json::{Map, Value};

use crate::{AdmissionRequest, Operation, Plugin};

#[derive(Debug)]
pub(crate) struct RuntimeClass {
    objects: Arc<dyn Objects>,
}

impl RuntimeClass {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn class_of(&self, request: &AdmissionRequest<'_>) -> Result<Option<Value>, ApiError> {
        let name = match request.object.as_deref() {
            Some(pod) => pod.text_at(&["spec", "runtimeClassName"]),
            None => return Ok(None),
        };
        if name.is_empty() {
            return Ok(None);
        }
        let stored = self
            .objects
            .get(
                "node.k8s.io",
                "runtimeclasses",
                &ObjectKey::cluster(name.clone()),
            )
            .await;
        let stored = stored.ok_or_else(|| {
            request.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))
        })?;
        stored.decode().map(Some).map_err(ApiError::internal)
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !request.is_for("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let class = self.class_of(request).await?.unwrap_or_default();
        let overhead = class["overhead"]["podFixed"]
            .as_object()
            .filter(|overhead| !overhead.is_empty())
            .cloned();
        let Some(pod) = request.object.as_deref() else {
            return Ok(());
        };
        let stated = pod
            .at(&["spec", "overhead"])
            .and_then(Value::as_object)
            .filter(|stated| !stated.is_empty());
        match (&overhead, stated) {
            (None, Some(_)) => {
                return Err(request
                    .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"));
            }
            (Some(overhead), Some(stated)) if overhead != stated => {
                return Err(request.forbidden(
                    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
                ));
            }
            _ => {}
        }
        let conflict = {
            let Some(pod) = request.object.as_deref_mut() else {
                return Ok(());
            };
            if let Some(overhead) = overhead {
                pod.set_at(&["spec", "overhead"], Value::Object(overhead));
            }
            merge_scheduling(pod, &class["scheduling"])
        };
        match conflict {
            Some(key) => Err(request.forbidden(format!(
                "pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] and pod.spec.nodeSelector[{key}] have different values"
            ))),
            None => Ok(()),
        }
    }
}

/// Adds the class' node selector and tolerations; answers the key on which the selectors disagree.
fn merge_scheduling(pod: &mut Object, scheduling: &Value) -> Option<String> {
    let selector = scheduling["nodeSelector"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    if !selector.is_empty() {
        let mut merged: Map<String, Value> = pod
            .at(&["spec", "nodeSelector"])
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        for (key, value) in selector {
            if merged.get(&key).is_some_and(|present| *present != value) {
                return Some(key);
            }
            merged.insert(key, value);
        }
        pod.set_at(&["spec", "nodeSelector"], Value::Object(merged));
    }
    let added = scheduling["tolerations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if !added.is_empty() {
        let mut merged = pod
            .at(&["spec", "tolerations"])
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for toleration in added {
            if !merged.contains(&toleration) {
                merged.push(toleration);
            }
        }
        pod.set_at(&["spec", "tolerations"], merged.into());
    }
    None
}
