//! Validation of whole pods.

use apimachinery::{FieldError, FieldErrors, FieldPath, dns1123_label_error};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::pod_template::validation::{
    Holder, matching_annotations, pod_annotations, pod_spec, untrimmed_image,
};
use crate::pod_template::warnings::pod_warnings;
use crate::validation::{found, path, text};

/// What holds for every pod, new or changed.
pub(super) fn validate(pod: &Pod) -> FieldErrors {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let own = FieldPath::new("spec");
    found(|errors| {
        pod_annotations(
            errors,
            pod.metadata.annotations.as_ref(),
            spec,
            &path(&["metadata", "annotations"]),
        );
        pod_spec(errors, spec, Holder::Pod(&pod.metadata), &own);
        tokens_need_an_account(errors, spec, &own);
        let trimmed = |errors: &mut FieldErrors, containers: &[Container], path: &FieldPath| {
            for (index, container) in containers.iter().enumerate() {
                untrimmed_image(errors, container, &path.index(index));
            }
        };
        trimmed(errors, &spec.containers, &own.child("containers"));
        trimmed(
            errors,
            spec.init_containers.as_deref().unwrap_or_default(),
            &own.child("initContainers"),
        );
    })
}

fn tokens_need_an_account(errors: &mut FieldErrors, spec: &PodSpec, path: &FieldPath) {
    if !text(&spec.service_account_name).is_empty() {
        return;
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path
            .child("volumes")
            .index(index)
            .child("projected")
            .child("sources");
        let sources = volume
            .projected
            .as_ref()
            .and_then(|projected| projected.sources.as_ref());
        for (index, source) in sources.into_iter().flatten().enumerate() {
            if source.service_account_token.is_some() {
                let why = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(
                    &path.index(index).child("serviceAccountToken"),
                    why,
                ));
            }
        }
    }
}

pub(super) fn validate_new(pod: &Pod) -> FieldErrors {
    let Some(spec) = &pod.spec else {
        return FieldErrors::none();
    };
    let own = FieldPath::new("spec");
    found(|errors| {
        if spec
            .ephemeral_containers
            .as_ref()
            .is_some_and(|containers| !containers.is_empty())
        {
            errors.push(FieldError::forbidden(
                &own.child("ephemeralContainers"),
                "cannot be set on create",
            ));
        }
        let is_gated = spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|gates| !gates.is_empty());
        if is_gated && !text(&spec.node_name).is_empty() {
            let why = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&own.child("nodeName"), why));
        }
        matching_annotations(errors, pod.metadata.annotations.as_ref(), spec, &own);
    })
}

pub(super) fn warnings(pod: &Pod) -> Vec<String> {
    let why = pod.metadata.name.as_deref().and_then(dns1123_label_error);
    let mut warnings: Vec<String> = why
        .map(|why| {
            format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label \
                 is recommended: [{why}]"
            )
        })
        .into_iter()
        .collect();
    if let Some(spec) = &pod.spec {
        warnings.extend(pod_warnings(&pod.metadata, spec));
    }
    warnings
}
