//! Ingresses of `networking.k8s.io/v1`.

use super::ingress_validation;
use apimachinery::FieldErrors;
use k8s_openapi::api::networking::v1::Ingress;

use crate::cells;
use crate::{Column, Generation, Strategy, Subresource};

/// Objects of kind `Ingress`.
#[derive(Debug)]
pub struct Ingresses;

impl Strategy for Ingresses {
    type Kind = Ingress;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Class", |ingress, _| {
            ingress
                .spec
                .as_ref()
                .and_then(|spec| spec.ingress_class_name.as_deref())
                .unwrap_or(cells::NONE)
                .into()
        }),
        Column::text("Hosts", |ingress, _| hosts(ingress).into()),
        Column::text("Address", |ingress, _| {
            let status = ingress
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref());
            let points = status
                .and_then(|status| status.ingress.as_deref())
                .unwrap_or_default();
            cells::load_balancer(
                points
                    .iter()
                    .map(|point| (point.ip.as_deref(), point.hostname.as_deref())),
            )
            .into()
        }),
        Column::text("Ports", |ingress, _| {
            match ingress
                .spec
                .as_ref()
                .and_then(|spec| spec.tls.as_deref())
                .unwrap_or_default()
            {
                [] => "80".into(),
                _ => "80, 443".into(),
            }
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["ing"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn validate_create(ingress: &Ingress) -> FieldErrors {
        let mut errors = ingress_validation::validate(ingress, None);
        errors.extend(ingress_validation::one_class(ingress));
        errors
    }

    fn validate_update(ingress: &Ingress, old: &Ingress) -> FieldErrors {
        ingress_validation::validate(ingress, Some(old))
    }

    fn validate_status_update(ingress: &Ingress, old: &Ingress) -> FieldErrors {
        ingress_validation::validate_status(ingress, old)
    }

    fn warnings(ingress: &Ingress) -> Vec<String> {
        let is_annotated = ingress
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(CLASS_ANNOTATION));
        let why = format!(
            "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
        );
        is_annotated.then_some(why).into_iter().collect()
    }

    fn warnings_on_update(_ingress: &Ingress, _old: &Ingress) -> Vec<String> {
        Vec::new()
    }
}

fn hosts(ingress: &Ingress) -> String {
    let rules = ingress
        .spec
        .as_ref()
        .and_then(|spec| spec.rules.as_deref())
        .unwrap_or_default();
    let mut listed: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= listed.len() == cells::LISTED_MAX;
        if let (false, Some(host)) = (more, rule.host.as_deref().filter(|host| !host.is_empty())) {
            listed.push(host);
        }
    }
    match listed.join(",") {
        text if text.is_empty() => "*".to_owned(),
        text if more => format!("{text} + {} more...", rules.len() - cells::LISTED_MAX),
        text => text,
    }
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
