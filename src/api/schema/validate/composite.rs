//! `allOf`, `anyOf`, `oneOf` and `not`: what the alternatives find, and which of it is told.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{Findings, Place};
use crate::structural::{Structural, Validation};

pub(super) fn judge(place: Place<'_>, value: &Value, validation: &Validation) -> Findings {
    let mut findings = Findings::default();
    if !validation.any_of.is_empty() {
        findings.merge(any_of(place, value, &validation.any_of));
    }
    if !validation.one_of.is_empty() {
        findings.merge(one_of(place, value, &validation.one_of));
    }
    if !validation.all_of.is_empty() {
        findings.merge(all_of(place, value, &validation.all_of));
    }
    if let Some(not) = &validation.not
        && super::judge(place, value, not).is_valid()
    {
        findings
            .errors
            .push(composite(place, "must not validate the schema (not)"));
    }
    findings.checks += 1;
    findings
}

/// Upstream tells these of no field: the path stands in the text.
fn composite(place: Place<'_>, text: &str) -> FieldError {
    FieldError::invalid(&FieldPath::root(), "", format!("{:?} {text}", place.path))
}

/// The alternative that got furthest, to be told when none fits.
fn closest(findings: Vec<Findings>) -> Findings {
    let mut closest: Option<Findings> = None;
    for candidate in findings {
        if closest
            .as_ref()
            .is_none_or(|best| candidate.checks > best.checks)
        {
            closest = Some(candidate);
        }
    }
    closest.unwrap_or_default()
}

fn any_of(place: Place<'_>, value: &Value, schemas: &[Structural]) -> Findings {
    let mut failed = Vec::new();
    for schema in schemas {
        let findings = super::judge(place, value, schema);
        if findings.is_valid() {
            return findings;
        }
        failed.push(findings);
    }
    let mut findings = Findings::of(Some(composite(
        place,
        "must validate at least one schema (anyOf)",
    )));
    findings.merge(closest(failed));
    findings
}

fn one_of(place: Place<'_>, value: &Value, schemas: &[Structural]) -> Findings {
    let (mut valid, mut failed): (Vec<_>, Vec<_>) = schemas
        .iter()
        .map(|schema| super::judge(place, value, schema))
        .partition(Findings::is_valid);
    match valid.len() {
        1 => valid.remove(0),
        0 => {
            let text = "must validate one and only one schema (oneOf). Found none valid";
            let mut findings = Findings::of(Some(composite(place, text)));
            findings.merge(closest(std::mem::take(&mut failed)));
            findings
        }
        several => {
            let text = format!(
                "must validate one and only one schema (oneOf). Found {several} valid alternatives"
            );
            Findings::of(Some(composite(place, &text)))
        }
    }
}

fn all_of(place: Place<'_>, value: &Value, schemas: &[Structural]) -> Findings {
    let mut findings = Findings::default();
    let mut valid = 0;
    for schema in schemas {
        let found = super::judge(place, value, schema);
        valid += usize::from(found.is_valid());
        findings.merge(found);
    }
    if valid != schemas.len() {
        let none = if valid == 0 { ". None validated" } else { "" };
        let text = format!("must validate all the schemas (allOf){none}");
        findings.errors.push(composite(place, &text));
    }
    findings
}
