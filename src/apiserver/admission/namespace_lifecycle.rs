//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going, and some namespaces stay.

use std::sync::Arc;

use apimachinery::{ApiError, Cause, GroupResource, ObjectKey, Reason, StatusDetails};
use async_trait::async_trait;
use auth::Objects;

use crate::{AdmissionRequest, Operation, Plugin};

/// `kube-node-lease` may be deleted upstream too.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

#[derive(Debug)]
pub(crate) struct NamespaceLifecycle {
    objects: Arc<dyn Objects>,
}

impl NamespaceLifecycle {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let is_namespace = request.is_for("", "namespaces");
        if is_namespace
            && request.operation == Operation::Delete
            && IMMORTAL.contains(&request.name)
        {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        let creates_inside = request.operation == Operation::Create
            && !request.namespace.is_empty()
            && !is_namespace;
        // Reviews are questions, not objects: they are answered about namespaces that do not exist.
        let is_question = request.resource.group == "authorization.k8s.io";
        if !creates_inside || is_question {
            return Ok(());
        }
        let namespace = self
            .objects
            .get("", "namespaces", &ObjectKey::cluster(request.namespace))
            .await;
        let Some(namespace) = namespace else {
            return Err(ApiError::not_found(
                &GroupResource::new("", "namespaces"),
                request.namespace,
            ));
        };
        if namespace.index.is_being_deleted {
            return Err(terminating(request));
        }
        Ok(())
    }
}

fn terminating(request: &AdmissionRequest<'_>) -> ApiError {
    let why = format!(
        "unable to create new content in namespace {} because it is being terminated",
        request.namespace
    );
    let error = request.forbidden(why);
    let cause = Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {} is being terminated", request.namespace),
        field: "metadata.namespace".to_owned(),
    };
    let details = error.details.map(|details| *details).unwrap_or_default();
    ApiError::new(403, Reason::Forbidden, error.message).with_details(StatusDetails {
        causes: vec![cause],
        ..details
    })
}
