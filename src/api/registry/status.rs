//! What writes to a status leave as it was.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// For kinds whose status says nothing about labels, annotations, owners and finalizers.
pub(crate) fn keep_metadata(metadata: &mut ObjectMeta, old: &ObjectMeta) {
    metadata.labels.clone_from(&old.labels);
    metadata.annotations.clone_from(&old.annotations);
    metadata.finalizers.clone_from(&old.finalizers);
    metadata.owner_references.clone_from(&old.owner_references);
}
