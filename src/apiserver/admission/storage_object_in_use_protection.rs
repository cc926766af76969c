//! StorageObjectInUseProtection: volumes and claims carry a finalizer, so that they outlive their use.

use apimachinery::ApiError;
use async_trait::async_trait;

use crate::{AdmissionRequest, Operation, Plugin};

#[derive(Debug)]
pub(crate) struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation != Operation::Create
            || !request.subresource.is_empty()
            || !request.resource.group.is_empty()
        {
            return Ok(());
        }
        let finalizer = match request.resource.resource.as_ref() {
            "persistentvolumes" => "kubernetes.io/pv-protection",
            "persistentvolumeclaims" => "kubernetes.io/pvc-protection",
            _ => return Ok(()),
        };
        let Some(object) = request.object.as_deref_mut() else {
            return Ok(());
        };
        let mut finalizers: Vec<String> =
            object.finalizers().into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|present| present == finalizer) {
            finalizers.push(finalizer.to_owned());
            object.set_finalizers(finalizers);
        }
        Ok(())
    }
}
