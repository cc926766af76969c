//! Controller Revisions of `apps/v1`.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::cells;
use crate::validation::changes::immutable;
use crate::validation::found;
use crate::validation::numbers::non_negative;
use crate::{Column, Strategy};

/// Objects of kind `ControllerRevision`.
#[derive(Debug)]
pub struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    type Kind = ControllerRevision;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Controller", |object, _| controller(object).into()),
        Column::text("Revision", |object, _| object.revision.into()),
        Column::age(),
    ];

    fn validate(revision: &ControllerRevision) -> FieldErrors {
        found(|errors| non_negative(errors, revision.revision, &FieldPath::new("revision")))
    }

    fn validate_create(revision: &ControllerRevision) -> FieldErrors {
        found(|errors| match revision.data.as_ref().map(|data| &data.0) {
            None | Some(Value::Null) => {
                errors.push(FieldError::required(
                    &FieldPath::new("data"),
                    "data is mandatory",
                ));
            }
            Some(Value::Object(_)) => {}
            Some(_) => errors.push(FieldError::required(
                &FieldPath::new("data"),
                "data must be a valid JSON object",
            )),
        })
    }

    fn validate_update(revision: &ControllerRevision, old: &ControllerRevision) -> FieldErrors {
        found(|errors| immutable(errors, &revision.data, &old.data, &FieldPath::new("data")))
    }
}

/// The controlling owner as `kind.group/name`.
fn controller(object: &ControllerRevision) -> String {
    let owners = object.metadata.owner_references.iter().flatten();
    let Some(owner) = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
    else {
        return cells::NONE.to_owned();
    };
    match owner.api_version.split_once('/') {
        Some((group, _)) => format!("{}.{group}/{}", owner.kind.to_lowercase(), owner.name),
        None => format!("{}/{}", owner.kind.to_lowercase(), owner.name),
    }
}
