//! What the two versions of HorizontalPodAutoscaler have in common: columns, what scales, counts in their status.

use std::marker::PhantomData;

use apimachinery::{FieldErrors, FieldPath};

use super::validation;
use crate::cells;
use crate::validation::found;
use crate::validation::numbers::non_negative;
use crate::{Column, StoredAs, Strategy, Subresource, Typed};

/// Autoscalers of one version.
#[derive(Debug)]
pub(crate) struct Autoscalers<A>(PhantomData<A>);

impl<A> Autoscalers<A> {
    pub(crate) const STRATEGY: Self = Self(PhantomData);
}

/// What both versions say, by one name.
pub(crate) struct Scaling<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) replicas_min: Option<i32>,
    pub(crate) replicas_max: i32,
    pub(crate) replicas_now: i32,
    pub(crate) replicas_desired: i32,
}

/// The object that is scaled.
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    pub(crate) api_version: &'a str,
}

/// A version of HorizontalPodAutoscaler.
pub(crate) trait Autoscaler: Typed {
    const STORED_AS: Option<StoredAs>;
    fn scaling(&self) -> Scaling<'_>;
    /// `current/target` of every metric.
    fn targets(&self) -> String;
    fn default_metrics(&mut self);
    fn default_replicas_min(&mut self) -> &mut Option<i32>;
    fn validate_metrics(&self, errors: &mut FieldErrors, spec: &FieldPath);
}

impl<A: Autoscaler> Strategy for Autoscalers<A> {
    type Kind = A;
    const COLUMNS: &'static [Column<A>] = &[
        Column::name(),
        Column::text("Reference", |scaler, _| {
            let target = scaler.scaling().target;
            format!("{}/{}", target.kind, target.name).into()
        }),
        Column::text("Targets", |scaler, _| scaler.targets().into()),
        Column::text("MinPods", |scaler, _| match scaler.scaling().replicas_min {
            Some(count) => count.to_string().into(),
            None => cells::UNSET.into(),
        }),
        Column::text("MaxPods", |scaler, _| scaler.scaling().replicas_max.into()),
        Column::text("Replicas", |scaler, _| scaler.scaling().replicas_now.into()),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STORED_AS: Option<StoredAs> = A::STORED_AS;

    fn default(scaler: &mut A) {
        scaler.default_replicas_min().get_or_insert(1);
        scaler.default_metrics();
    }

    fn validate(scaler: &A) -> FieldErrors {
        let path = FieldPath::new("spec");
        found(|errors| {
            validation::scaling(errors, &scaler.scaling(), &path);
            scaler.validate_metrics(errors, &path);
        })
    }

    fn validate_status_update(scaler: &A, _old: &A) -> FieldErrors {
        let scaling = scaler.scaling();
        let path = FieldPath::new("status");
        found(|errors| {
            non_negative(errors, scaling.replicas_now, &path.child("currentReplicas"));
            non_negative(
                errors,
                scaling.replicas_desired,
                &path.child("desiredReplicas"),
            );
        })
    }
}
