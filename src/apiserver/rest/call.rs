//! One allowed request about one kind, as verbs see it.

use std::sync::Arc;

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, FieldSelector, GroupKind, LabelSelector,
    ObjectKey,
};
use auth::User;
use bytes::Bytes;
use storage::Matching;

use crate::answer::Warnings;
use crate::catalog::Served;
use crate::filters::{Authorized, Incoming};
use crate::query::Query;
use crate::request_info::{ResourcePath, Verb};
use crate::state::State;

/// The largest body of a write, as upstream's default.
pub(crate) const BODY_BYTES_MAX: usize = schema::BODY_SIZE_BYTES_MAX;

/// What verbs need of a request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) state: &'a Arc<State>,
    pub(crate) authorized: &'a Authorized,
    pub(crate) path: &'a ResourcePath,
    pub(crate) served: &'a Arc<Served>,
    pub(crate) query: &'a Query,
    pub(crate) headers: &'a http::HeaderMap,
    pub(crate) warnings: &'a Warnings,
    pub(crate) body: Bytes,
}

/// The query parameters of writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) run: Run,
    pub(crate) field_validation: FieldValidation,
    pub(crate) field_manager: String,
    pub(crate) ownership: Ownership,
}

/// How the owners of fields are found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// From what changed.
    Tracked,
    /// They stand in the object already, because a configuration was applied.
    Applied,
}

/// Whether anything is really done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Real,
    Dry,
}

impl Run {
    pub(crate) fn is_dry(self) -> bool {
        self == Self::Dry
    }
}

/// What happens to unknown and repeated fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Call<'_> {
    pub(crate) fn user(&self) -> &User {
        self.authorized.user()
    }

    /// The namespace of the objects asked for; empty for cluster-wide kinds and for all namespaces.
    pub(crate) fn namespace(&self) -> &str {
        if self.served.description.is_namespaced() {
            &self.path.namespace
        } else {
            ""
        }
    }

    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(self.namespace(), self.path.name.clone())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub(crate) fn group_kind(&self) -> GroupKind {
        // Upstream's errors name the kind that is kept: events of both groups are those of the core.
        self.served.description.stored_kind.group_kind()
    }

    /// The selectors of the query, in the words of the stored version.
    pub(crate) fn matching(&self) -> Result<Matching, ApiError> {
        let labels = LabelSelector::parse(self.query.get("labelSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let mut fields = FieldSelector::parse(self.query.get("fieldSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        for requirement in &mut fields.0 {
            if !self.served.description.is_selectable(&requirement.field) {
                return Err(ApiError::bad_request(
                    self.unknown_field(&requirement.field),
                ));
            }
            requirement.field = self.served.stored_field(&requirement.field);
        }
        Ok(Matching { labels, fields })
    }

    fn unknown_field(&self, field: &str) -> String {
        if self.served.description.selectable_fields.is_empty() {
            format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )
        } else {
            format!("field label not supported: {field}")
        }
    }

    fn wrong_options(&self, error: FieldError) -> ApiError {
        let mut errors = FieldErrors::none();
        errors.push(error);
        let kind = match self.path.verb() {
            Verb::Update => "UpdateOptions",
            Verb::Patch => "PatchOptions",
            _ => "CreateOptions",
        };
        ApiError::invalid(&GroupKind::new("meta.k8s.io", kind), "", &errors)
    }

    pub(crate) fn write_options(&self) -> Result<WriteOptions, ApiError> {
        let dry_run: Vec<&str> = self
            .query
            .all("dryRun")
            .filter(|value| !value.is_empty())
            .collect();
        let run = match dry_run.as_slice() {
            [] => Run::Real,
            values if values.iter().all(|value| *value == "All") => Run::Dry,
            _ => {
                let told: Vec<serde_json::Value> =
                    dry_run.iter().map(|text| (*text).into()).collect();
                return Err(self.wrong_options(FieldError::not_supported(
                    &FieldPath::new("dryRun"),
                    told,
                    &["All"],
                )));
            }
        };
        let field_validation = match self.query.text("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = FieldPath::new("fieldValidation");
                let error =
                    FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
                return Err(self.wrong_options(error));
            }
        };
        let field_manager = match self.query.text("fieldManager") {
            Some(manager) => {
                if let Some(error) = manager_error(manager) {
                    return Err(self.wrong_options(error));
                }
                manager.to_owned()
            }
            None => default_manager(self.header("user-agent")),
        };
        Ok(WriteOptions {
            run,
            field_validation,
            field_manager,
            ownership: Ownership::Tracked,
        })
    }
}

/// The longest name of a field manager, in bytes.
const MANAGER_BYTES_MAX: usize = 128;

fn manager_error(manager: &str) -> Option<FieldError> {
    let path = FieldPath::new("fieldManager");
    if manager.len() > MANAGER_BYTES_MAX {
        return Some(FieldError::too_long(&path, 128));
    }
    let odd = manager
        .char_indices()
        .find(|(_, letter)| letter.is_control());
    odd.map(|(at, letter)| {
        FieldError::invalid(
            &path,
            manager,
            format!(
                "invalid character U+{:04X} (at position {at})",
                letter as u32
            ),
        )
    })
}

/// Without a `fieldManager` the program's name in the user agent counts.
fn default_manager(user_agent: &str) -> String {
    match user_agent.split('/').next().unwrap_or_default() {
        "" => "unknown".to_owned(),
        program => program.chars().take(MANAGER_BYTES_MAX).collect(),
    }
}

/// Reads the body of requests that have one.
pub(crate) async fn body_of(request: &mut Incoming) -> Result<Bytes, ApiError> {
    let body = std::mem::replace(
        &mut request.body,
        crate::body::RequestBody::InProcess(Bytes::new()),
    );
    body.read(BODY_BYTES_MAX).await
}
