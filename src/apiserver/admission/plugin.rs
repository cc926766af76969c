//! The face of an admission plugin.

use apimachinery::{ApiError, GroupVersionKind, GroupVersionResource, Object};
use async_trait::async_trait;
use auth::User;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    pub operation: Operation,
    pub kind: &'a GroupVersionKind,
    pub resource: &'a GroupVersionResource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty for a create whose name will be generated.
    pub name: &'a str,
    pub user: &'a User,
    /// The object as it will be; `None` for deletes. For connects, the options.
    pub object: Option<&'a mut Object>,
    /// The object as it is; `None` for creates.
    pub old: Option<&'a Object>,
    pub dry_run: bool,
}

impl AdmissionRequest<'_> {
    /// Is it about this resource itself and no subresource of it?
    pub(crate) fn is_for(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group
            && self.resource.resource == resource
            && self.subresource.is_empty()
    }

    /// A refusal in the form that upstream's plugins use.
    pub(crate) fn forbidden(&self, why: impl Into<String>) -> ApiError {
        let name = match (&self.object, self.name) {
            (Some(object), "") if !object.name().is_empty() => object.name(),
            (Some(object), "") if object.name().is_empty() => object.metadata_text("generateName"),
            (_, name) => name,
        };
        ApiError::forbidden(&self.resource.group_resource(), name, &why.into())
    }
}

/// One admission plugin. Its name is upstream's: `NamespaceLifecycle`.
#[async_trait]
pub trait Plugin: Send + Sync + std::fmt::Debug {
    fn name(&self) -> &'static str;

    /// May change `request.object`.
    async fn admit(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Sees the object as it will be stored; may only refuse. Warnings go to the client.
    async fn validate(&self, _request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }
}
