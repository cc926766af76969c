//! A collection, whole or in pages.

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind};
use storage::{ContinueToken, ListOptions, RevisionMatch};

use crate::answer::Answer;
use crate::call::Call;
use crate::query::Query;

pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let options = list_options(call)?;
    if call.served.description.kind.kind == "ComponentStatus" {
        return Ok(crate::virtual_kinds::component_statuses(call));
    }
    let list = call
        .state
        .store
        .list(&call.served.collection, &options)
        .await?;
    Ok(Answer::List {
        served: call.served.clone(),
        list,
    })
}

pub(crate) fn list_options(call: &Call<'_>) -> Result<ListOptions, ApiError> {
    let limit = call.query.number("limit")?.unwrap_or(0);
    // A list ends by itself, but what is no number is refused for it as for a watch.
    call.query.number("timeoutSeconds")?;
    let continue_token = call
        .query
        .text("continue")
        .map(ContinueToken::decode)
        .transpose()?;
    let revision = revision(call.query, limit, continue_token.is_some())?;
    let namespace = Some(call.namespace().to_owned()).filter(|namespace| !namespace.is_empty());
    Ok(ListOptions {
        namespace,
        matching: call.matching()?,
        revision,
        limit: usize::try_from(limit).unwrap_or(0),
        continue_token,
    })
}

/// What `resourceVersion` and `resourceVersionMatch` ask for together.
fn revision(
    query: &Query,
    limit: i64,
    continues: bool,
) -> Result<Option<(i64, RevisionMatch)>, ApiError> {
    let text = query.text("resourceVersion");
    let how = query.text("resourceVersionMatch");
    let errors = contradictions(query, continues);
    if !errors.is_empty() {
        return Err(ApiError::invalid(
            &GroupKind::new("meta.k8s.io", "ListOptions"),
            "",
            &errors,
        ));
    }
    let Some(text) = text else { return Ok(None) };
    let revision = parse_revision(text)
        .map_err(|why| ApiError::bad_request(format!("invalid resource version: {why}")))?;
    if continues {
        if revision != 0 {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(None);
    }
    let exact = how == Some("Exact") || (how.is_none() && limit > 0 && revision > 0);
    Ok(Some((
        revision,
        if exact {
            RevisionMatch::Exact
        } else {
            RevisionMatch::NotOlderThan
        },
    )))
}

/// What of a list's parameters cannot stand together.
fn contradictions(query: &Query, continues: bool) -> FieldErrors {
    let text = query.text("resourceVersion");
    let mut errors = FieldErrors::none();
    if query.text("sendInitialEvents").is_some() {
        let path = FieldPath::new("sendInitialEvents");
        errors.push(FieldError::forbidden(
            &path,
            "sendInitialEvents is forbidden for list",
        ));
    }
    let path = FieldPath::new("resourceVersionMatch");
    if let Some(how) = query.text("resourceVersionMatch") {
        if text.is_none() {
            errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if continues {
            errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !matches!(how, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(
                &path,
                how,
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if how == "Exact" && text == Some("0") {
            errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    errors
}

/// A resourceVersion in a query, or upstream's words for why it is none.
pub(crate) fn parse_revision(text: &str) -> Result<i64, String> {
    text.parse::<u64>()
        .ok()
        .and_then(|revision| i64::try_from(revision).ok())
        .ok_or_else(|| {
            let why = if text.bytes().all(|byte| byte.is_ascii_digit()) {
                "value out of range"
            } else {
                "invalid syntax"
            };
            let why = format!("strconv.ParseUint: parsing {text:?}: {why}");
            FieldError::invalid(&FieldPath::new("resourceVersion"), text, why).to_string()
        })
}
