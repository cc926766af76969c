//! DefaultStorageClass: a claim that names no class gets the newest one that is marked as default.

use std::sync::Arc;

use apimachinery::{ApiError, StoredObject};
use async_trait::async_trait;
use auth::Objects;
use serde_json::Value;

use crate::{AdmissionRequest, Operation, Plugin};

const MARK: &str = "storageclass.kubernetes.io/is-default-class";

#[derive(Debug)]
pub(crate) struct DefaultStorageClass {
    objects: Arc<dyn Objects>,
}

impl DefaultStorageClass {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !request.is_for("", "persistentvolumeclaims") || request.operation != Operation::Create {
            return Ok(());
        }
        let Some(claim) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let names_class = claim
            .at(&["spec", "storageClassName"])
            .is_some_and(|class| !class.is_null())
            || claim
                .annotation("volume.beta.kubernetes.io/storage-class")
                .is_some();
        if names_class {
            return Ok(());
        }
        let classes = self
            .objects
            .list("storage.k8s.io", "storageclasses", "")
            .await;
        if let Some(class) = newest_default(&classes) {
            claim.set_at(&["spec", "storageClassName"], class.into());
        }
        Ok(())
    }
}

/// Of several defaults the newest wins, then the first by name.
fn newest_default(classes: &[StoredObject]) -> Option<String> {
    classes
        .iter()
        .filter_map(|class| {
            let value: Value = class.decode().ok()?;
            let metadata = &value["metadata"];
            let created = metadata["creationTimestamp"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            (metadata["annotations"][MARK] == "true").then(|| (created, class.key().name.clone()))
        })
        .max_by(|left, right| left.0.cmp(&right.0).then(right.1.cmp(&left.1)))
        .map(|(_, name)| name)
}
