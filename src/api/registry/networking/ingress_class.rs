//! Ingress Classes of `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::IngressClass;

use crate::{Column, Generation, Strategy};
use crate::cells;

/// Objects of kind `IngressClass`.
#[derive(Debug)]
pub struct IngressClasses;

impl Strategy for IngressClasses {
    type Kind = IngressClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column { cell: |class, _| cells::name_of_default(&class.metadata, "ingressclass.kubernetes.io/is-default-class"), ..Column::name() },
        Column::text("Controller", |class, _| {
            class.spec.as_ref().and_then(|spec| spec.controller.clone()).unwrap_or_default().into()
        }),
        Column::text("Parameters", |class, _| match class.spec.as_ref().and_then(|spec| spec.parameters.as_ref()) {
            Some(parameters) => match &parameters.api_group {
                Some(group) => format!("{}.{group}/{}", parameters.kind, parameters.name).into(),
                None => format!("{}/{}", parameters.kind, parameters.name).into(),
            },
            None => cells::NONE.into(),
        }),
        Column::age(),
    ];
    const GENERATION: Generation = Generation::Spec;

    fn default(class: &mut IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }
}
