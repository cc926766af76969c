//! Ingress Classes of `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::IngressClass;

use crate::{Generation, Strategy};

/// Objects of kind `IngressClass`.
#[derive(Debug)]
pub struct IngressClasses;

impl Strategy for IngressClasses {
    type Kind = IngressClass;
    const GENERATION: Generation = Generation::Spec;

    fn default(class: &mut IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }
}
