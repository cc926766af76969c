//! Selectors as workloads and policies carry them, in the form that matches labels.

use std::collections::BTreeMap;

use apimachinery::{LabelSelector, SelectorError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;

/// The selector of an object: a missing one matches nothing, an empty one everything.
pub fn label_selector(selector: Option<&ApiSelector>) -> Result<LabelSelector, SelectorError> {
    let value = selector
        .map(serde_json::to_value)
        .transpose()
        .map_err(|error| SelectorError(error.to_string()))?;
    LabelSelector::from_object(value.as_ref())
}

/// The selector of a service or a replication controller: plain labels, of which none match nothing.
pub fn map_selector(labels: Option<&BTreeMap<String, String>>) -> LabelSelector {
    match labels {
        Some(labels) if !labels.is_empty() => LabelSelector::from_labels(
            labels
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        ),
        _ => LabelSelector::nothing(),
    }
}
