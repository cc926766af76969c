//! Texts that the cells of several kinds share, as upstream's printers write them.

use apimachinery::zero_times::is_set;
use std::collections::BTreeMap;

use env::Timestamp;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, MicroTime, ObjectMeta, Time};
use serde_json::Value;

use crate::metadata_columns::human_duration;

pub(crate) const NONE: &str = "<none>";
pub(crate) const UNKNOWN: &str = "<unknown>";
pub(crate) const UNSET: &str = "<unset>";

/// Addresses, hosts and ports of one cell; the rest is counted.
pub(crate) const LISTED_MAX: usize = 3;

/// How long ago `time` was; `<unknown>` where it is missing.
pub(crate) fn since(time: Option<&Time>, now: Timestamp) -> String {
    time.filter(|time| is_set(time.0.as_second())).map_or_else(
        || UNKNOWN.to_owned(),
        |time| elapsed(Timestamp::from_jiff(time.0), now),
    )
}

/// As [`since`], of a time in microseconds.
pub(crate) fn since_micro(time: Option<&MicroTime>, now: Timestamp) -> String {
    time.filter(|time| is_set(time.0.as_second())).map_or_else(
        || UNKNOWN.to_owned(),
        |time| elapsed(Timestamp::from_jiff(time.0), now),
    )
}

/// The time between two points, as `kubectl` writes it.
pub(crate) fn elapsed(from: Timestamp, to: Timestamp) -> String {
    let behind = from.saturating_since(to).as_secs();
    if behind >= 2 {
        "<invalid>".to_owned()
    } else {
        human_duration(to.saturating_since(from).as_secs())
    }
}

/// `text`, or `fallback` for a missing or empty one.
pub(crate) fn text_or(text: Option<&str>, fallback: &str) -> Value {
    text.filter(|text| !text.is_empty())
        .unwrap_or(fallback)
        .into()
}

/// Names of containers in one cell.
pub(crate) fn container_names(containers: &[Container]) -> Value {
    let names: Vec<&str> = containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    names.join(",").into()
}

/// Images of containers in one cell.
pub(crate) fn container_images(containers: &[Container]) -> Value {
    let images: Vec<&str> = containers
        .iter()
        .map(|container| container.image.as_deref().unwrap_or_default())
        .collect();
    images.join(",").into()
}

/// Labels as `key=value`, or `<none>`.
pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>) -> Value {
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    text_or(Some(&pairs.join(",")), NONE)
}

/// A selector as a client would write it, or `<none>`.
pub(crate) fn selector(selector: Option<&LabelSelector>) -> Value {
    match semantics::selectors::label_selector(selector) {
        Ok(selector) => text_or(Some(&selector.to_string()), NONE),
        Err(_) => "<error>".into(),
    }
}

/// `True`, `False`, or `<unset>`.
pub(crate) fn flag(value: Option<bool>) -> Value {
    match value {
        Some(true) => "True".into(),
        Some(false) => "False".into(),
        None => UNSET.into(),
    }
}

/// The first few of `items`, and how many more there are.
pub(crate) fn with_more(items: &[String]) -> Option<String> {
    let shown = items[..items.len().min(LISTED_MAX)].join(",");
    if items.len() > LISTED_MAX {
        return Some(format!("{shown} + {} more...", items.len() - LISTED_MAX));
    }
    (!shown.is_empty()).then_some(shown)
}

/// The sorted addresses of a load balancer.
pub(crate) fn load_balancer<'a>(
    points: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> String {
    let mut addresses: Vec<&str> = points
        .filter_map(|(ip, hostname)| {
            ip.filter(|ip| !ip.is_empty())
                .or(hostname.filter(|name| !name.is_empty()))
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

/// Access modes in their short forms and fixed order.
pub(crate) fn access_modes(modes: Option<&Vec<String>>) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let named: Vec<&str> = SHORT
        .iter()
        .filter(|(mode, _)| modes.is_some_and(|modes| modes.iter().any(|named| named == mode)))
        .map(|(_, short)| *short)
        .collect();
    named.join(",")
}

/// The value that Go prints for a missing object in a label selector's `String()`.
pub(crate) fn go_selector(selector: &LabelSelector) -> String {
    let mut text = "&LabelSelector{MatchLabels:map[string]string{".to_owned();
    for (key, value) in selector.match_labels.iter().flatten() {
        text.push_str(&format!("{key}: {value},"));
    }
    text.push_str("},MatchExpressions:[]LabelSelectorRequirement{");
    for requirement in selector.match_expressions.iter().flatten() {
        let values = requirement.values.clone().unwrap_or_default().join(" ");
        text.push_str(&format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
            requirement.key, requirement.operator
        ));
    }
    text.push_str("},}");
    text
}

/// Who reported an event, and from where.
pub(crate) fn event_source(component: Option<&str>, instance: Option<&str>) -> String {
    match (component.unwrap_or_default(), instance.unwrap_or_default()) {
        (component, "") => component.to_owned(),
        (component, instance) => format!("{component}, {instance}"),
    }
}

/// The amount of `storage` in a list; `0` where there is none.
pub(crate) fn storage(list: Option<&BTreeMap<String, Quantity>>) -> String {
    list.and_then(|list| list.get("storage"))
        .map_or_else(|| "0".to_owned(), |amount| amount.0.clone())
}

/// The storage class that volumes and claims named before they had a field for it.
pub(crate) fn storage_class_annotation(metadata: &ObjectMeta) -> Option<&str> {
    metadata
        .annotations
        .as_ref()?
        .get("volume.beta.kubernetes.io/storage-class")
        .map(String::as_str)
}

/// The name of a class, marked if `annotation` says it is the default.
pub(crate) fn name_of_default(metadata: &ObjectMeta, annotation: &str) -> Value {
    let name = metadata.name.as_deref().unwrap_or_default();
    let marked = metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(annotation));
    if marked.is_some_and(|value| value == "true") {
        format!("{name} (default)").into()
    } else {
        name.into()
    }
}
