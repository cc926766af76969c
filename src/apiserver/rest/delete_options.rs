//! How a client wants something deleted.

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind, Object};
use serde::Deserialize;

use crate::call::{Call, Run};

/// `metav1.DeleteOptions`, from the body or else from the query.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// What happens to the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cascade {
    Background,
    Foreground,
    Orphan,
    /// Nothing was said: what the object's finalizers or its kind say.
    Unsaid,
}

impl DeleteOptions {
    pub(crate) fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let mut options = if call.body.is_empty() {
            Self::of_query(call)?
        } else {
            Self::of_body(call)?
        };
        if options.dry_run.is_empty() {
            options.dry_run = call
                .query
                .all("dryRun")
                .filter(|text| !text.is_empty())
                .map(Into::into)
                .collect();
        }
        options.check()?;
        Ok(options)
    }

    fn of_body(call: &Call<'_>) -> Result<Self, ApiError> {
        let object = crate::decode::delete_options(call)?;
        Self::of_object(object)
    }

    pub(crate) fn of_object(object: Object) -> Result<Self, ApiError> {
        serde_json::from_value(object.into_value())
            .map_err(|error| ApiError::bad_request(error.to_string()))
    }

    fn of_query(call: &Call<'_>) -> Result<Self, ApiError> {
        let query = call.query;
        let preconditions = Preconditions {
            uid: query.text("preconditions.uid").map(Into::into),
            resource_version: query.text("preconditions.resourceVersion").map(Into::into),
        };
        Ok(Self {
            grace_period_seconds: query.number("gracePeriodSeconds")?,
            orphan_dependents: query
                .text("orphanDependents")
                .map(|text| text != "false" && text != "0"),
            propagation_policy: query.text("propagationPolicy").map(Into::into),
            preconditions: (preconditions.uid.is_some()
                || preconditions.resource_version.is_some())
            .then_some(preconditions),
            dry_run: Vec::new(),
        })
    }

    fn check(&self) -> Result<(), ApiError> {
        let mut errors = FieldErrors::none();
        let path = FieldPath::new("propagationPolicy");
        if self.orphan_dependents.is_some() && self.propagation_policy.is_some() {
            errors.push(FieldError::invalid(
                &path,
                self.propagation_policy.clone(),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let Some(policy) = &self.propagation_policy
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            errors.push(FieldError::not_supported(
                &path,
                policy.clone(),
                &["Foreground", "Background", "Orphan", "nil"],
            ));
        }
        if self.dry_run.iter().any(|value| value != "All") {
            let value: Vec<serde_json::Value> = self
                .dry_run
                .iter()
                .map(|text| text.clone().into())
                .collect();
            errors.push(FieldError::not_supported(
                &FieldPath::new("dryRun"),
                value,
                &["All"],
            ));
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(
            &GroupKind::new("meta.k8s.io", "DeleteOptions"),
            "",
            &errors,
        ))
    }

    pub(crate) fn run(&self) -> Run {
        if self.dry_run.is_empty() {
            Run::Real
        } else {
            Run::Dry
        }
    }

    pub(crate) fn set_dry(&mut self) {
        self.dry_run = vec!["All".to_owned()];
    }

    pub(crate) fn cascade(&self) -> Cascade {
        match (self.orphan_dependents, self.propagation_policy.as_deref()) {
            (Some(true), _) | (None, Some("Orphan")) => Cascade::Orphan,
            (Some(false), _) | (None, Some("Background")) => Cascade::Background,
            (None, Some("Foreground")) => Cascade::Foreground,
            _ => Cascade::Unsaid,
        }
    }

    /// Clients of the old flag are told when something is still there.
    pub(crate) fn wants_accepted(&self) -> bool {
        self.orphan_dependents == Some(false)
    }
}
