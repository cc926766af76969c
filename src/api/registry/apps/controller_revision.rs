//! Controller Revisions of `apps/v1`.

use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::{Column, Strategy};
use crate::cells;

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
}

/// The controlling owner as `kind.group/name`.
fn controller(object: &ControllerRevision) -> String {
    let owners = object.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else { return cells::NONE.to_owned() };
    match owner.api_version.split_once('/') {
        Some((group, _)) => format!("{}.{group}/{}", owner.kind.to_lowercase(), owner.name),
        None => format!("{}/{}", owner.kind.to_lowercase(), owner.name),
    }
}
