//! IPAddresses of `networking.k8s.io/v1`.

use super::ingress_validation::path_segment;
use crate::validation::changes::immutable;
use crate::validation::{addresses, found, names, path, text};
use k8s_openapi::api::networking::v1::IPAddress;

use apimachinery::{FieldErrors, FieldPath, NameRule};

use crate::{Column, Strategy};

/// Objects of kind `IPAddress`.
#[derive(Debug)]
pub struct IPAddresses;

impl Strategy for IPAddresses {
    type Kind = IPAddress;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("ParentRef", |address, _| {
            let parent = &address.spec.parent_ref;
            let group = parent.group.as_deref().filter(|group| !group.is_empty());
            let resource = group
                .map_or(parent.resource.clone(), |group| {
                    format!("{}.{group}", parent.resource)
                })
                .to_lowercase();
            match parent.namespace.as_deref().unwrap_or_default() {
                "" => format!("{resource}/{}", parent.name).into(),
                namespace => format!("{resource}/{namespace}/{}", parent.name).into(),
            }
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["ip"];
    const NAME_RULE: NameRule = NameRule::PathSegment;

    fn validate_create(address: &IPAddress) -> FieldErrors {
        let mut errors = FieldErrors::default();
        let name = address.metadata.name.as_deref().unwrap_or_default();
        addresses::ip(&mut errors, name, &FieldPath::new("metadata").child("name"));
        errors
    }

    fn validate(address: &IPAddress) -> FieldErrors {
        let path = path(&["spec", "parentRef"]);
        found(|errors| {
            let parent = &address.spec.parent_ref;
            if !text(&parent.group).is_empty() {
                names::dns_subdomain(errors, text(&parent.group), &path.child("group"));
            }
            path_segment(errors, &parent.resource, &path.child("resource"));
            path_segment(errors, &parent.name, &path.child("name"));
            if !text(&parent.namespace).is_empty() {
                path_segment(errors, text(&parent.namespace), &path.child("namespace"));
            }
        })
    }

    fn validate_update(address: &IPAddress, old: &IPAddress) -> FieldErrors {
        let path = path(&["spec", "parentRef"]);
        found(|errors| {
            immutable(
                errors,
                &address.spec.parent_ref,
                &old.spec.parent_ref,
                &path,
            );
        })
    }
}
