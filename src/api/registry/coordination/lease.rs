//! Leases of `coordination.k8s.io/v1`.

use crate::validation::{found, names, one_of, text};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::coordination::v1::Lease;

use crate::{Column, Permission, Retention, Strategy};

/// Objects of kind `Lease`.
#[derive(Debug)]
pub struct Leases;

impl Strategy for Leases {
    type Kind = Lease;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Holder", |lease, _| {
            lease
                .spec
                .as_ref()
                .and_then(|spec| spec.holder_identity.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::age(),
    ];
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
    const RETENTION: Retention = Retention::Relaxed;

    fn validate(lease: &Lease) -> FieldErrors {
        let Some(spec) = &lease.spec else {
            return FieldErrors::none();
        };
        let path = FieldPath::new("spec");
        found(|errors| {
            if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
                errors.push(FieldError::invalid(
                    &path.child("leaseDurationSeconds"),
                    seconds,
                    "must be greater than 0",
                ));
            }
            if let Some(count) = spec.lease_transitions.filter(|count| *count < 0) {
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(
                    &path.child("leaseTransitions"),
                    count,
                    why,
                ));
            }
            if let Some(strategy) = &spec.strategy {
                lease_strategy(errors, strategy, &path.child("strategy"));
            }
            if !text(&spec.preferred_holder).is_empty() && text(&spec.strategy).is_empty() {
                let why = "may only be specified if `strategy` is defined";
                errors.push(FieldError::forbidden(&path.child("preferredHolder"), why));
            }
        })
    }
}

/// Kubernetes' own strategies have no slash; others name a domain and a path.
fn lease_strategy(errors: &mut FieldErrors, strategy: &str, path: &FieldPath) {
    if strategy.contains('/') {
        names::qualified_name(errors, strategy, path);
    } else {
        one_of(errors, strategy, &["OldestEmulationVersion"], path);
    }
}
