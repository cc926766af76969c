//! What a Node must be: its taints, address ranges and amounts, and what never changes once it is set.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    ConfigMapNodeConfigSource, Node, NodeConfigSource, NodeSpec, NodeStatus, Taint,
};
use serde_json::json;

use crate::pod_template::validation::taint_effect;
use crate::validation::changes::json;
use crate::validation::numbers::positive;
use crate::validation::patterns::Expression;
use crate::validation::{addresses, amounts, found, names, path, required, text};

const FEATURE_CHARACTERS_MAX: usize = 253;
const STAYS: &str = "except from \"\" to valid";

pub(super) fn validate(node: &Node) -> FieldErrors {
    let none = NodeSpec::default();
    let spec = node.spec.as_ref().unwrap_or(&none);
    found(|errors| {
        taints(errors, spec, &path(&["metadata", "taints"]));
        resources(errors, node);
        let swap = node
            .status
            .as_ref()
            .and_then(|status| status.node_info.as_ref()?.swap.as_ref()?.capacity);
        if let Some(capacity) = swap {
            positive(
                errors,
                capacity,
                &path(&["metadata", "nodeSwapStatus", "capacity"]),
            );
        }
        features(errors, node);
        pod_ranges(errors, spec, &path(&["spec", "podCIDRs"]));
    })
}

/// Holds for updates of the node and of its status.
pub(super) fn validate_change(node: &Node, old: &Node) -> FieldErrors {
    let none = (NodeSpec::default(), NodeStatus::default());
    let (spec, old) = (
        node.spec.as_ref().unwrap_or(&none.0),
        old.spec.as_ref().unwrap_or(&none.0),
    );
    let status = node.status.as_ref().unwrap_or(&none.1);
    found(|errors| {
        resources(errors, node);
        features(errors, node);
        let mut seen = BTreeSet::new();
        for (index, address) in status.addresses.iter().flatten().enumerate() {
            if !seen.insert((&address.type_, &address.address)) {
                let path = path(&["status", "addresses"]).index(index);
                errors.push(FieldError::duplicate(
                    &path,
                    json!({"Type": address.type_, "Address": address.address}),
                ));
            }
        }
        let path = FieldPath::new("spec");
        let old_ranges = old.pod_cidrs.as_deref().unwrap_or_default();
        if !old_ranges.is_empty() && old_ranges != spec.pod_cidrs.as_deref().unwrap_or_default() {
            let why = format!("node updates may not change podCIDR {STAYS}");
            errors.push(FieldError::forbidden(&path.child("podCIDRs"), why));
        }
        let provider = text(&old.provider_id);
        if !provider.is_empty() && provider != text(&spec.provider_id) {
            let why = format!("node updates may not change providerID {STAYS}");
            errors.push(FieldError::forbidden(&path.child("providerID"), why));
        }
        if let Some(source) = &spec.config_source {
            config_source(errors, source, Place::Spec, &path.child("configSource"));
        }
        config_status(errors, status);
        taints(
            errors,
            spec,
            &crate::validation::path(&["metadata", "taints"]),
        );
        if text(&spec.external_id) != text(&old.external_id) {
            errors.push(FieldError::forbidden(
                &path.child("externalID"),
                "may not be updated",
            ));
        }
    })
}

fn taints(errors: &mut FieldErrors, spec: &NodeSpec, path: &FieldPath) {
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.taints.iter().flatten().enumerate() {
        let path = path.index(index);
        names::qualified_name(errors, &taint.key, &path.child("key"));
        names::label_value(errors, text(&taint.value), &path.child("value"));
        match taint.effect.as_str() {
            "" => errors.push(FieldError::required(&path.child("effect"), "")),
            effect => taint_effect(errors, effect, &path.child("effect")),
        }
        if !seen.insert((&taint.effect, &taint.key)) {
            let mut error = FieldError::duplicate(&path, shown(taint));
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
}

fn shown(taint: &Taint) -> serde_json::Value {
    json!({"Key": taint.key, "Value": text(&taint.value), "Effect": taint.effect, "TimeAdded": taint.time_added})
}

fn resources(errors: &mut FieldErrors, node: &Node) {
    let Some(status) = &node.status else { return };
    for (field, amounts) in [
        ("capacity", &status.capacity),
        ("allocatable", &status.allocatable),
    ] {
        for (name, amount) in amounts.iter().flatten() {
            amounts::resource_amount(errors, name, amount, &path(&["status", field, name]));
        }
    }
}

fn features(errors: &mut FieldErrors, node: &Node) {
    static NAME: Expression = Expression::new("^[A-Z][a-zA-Z0-9]*(/[a-zA-Z0-9]+)*$");
    let features = node
        .status
        .as_ref()
        .and_then(|status| status.declared_features.as_deref())
        .unwrap_or_default();
    let path = path(&["status", "declaredFeatures"]);
    for (index, feature) in features.iter().enumerate() {
        let why = if feature.len() > FEATURE_CHARACTERS_MAX {
            Some(format!(
                "must be no more than {FEATURE_CHARACTERS_MAX} characters"
            ))
        } else if NAME.matches(feature) {
            None
        } else {
            let rule = "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature \
                        or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes";
            Some(rule.to_owned())
        };
        if let Some(why) = why {
            let why = format!("invalid feature name {feature:?}: {why}");
            errors.push(FieldError::invalid(
                &path.index(index),
                feature.as_str(),
                why,
            ));
        }
        if let Some(next) = features.get(index + 1) {
            let path = path.index(index + 1);
            if feature == next {
                errors.push(FieldError::duplicate(&path, next.as_str()));
            } else if feature > next {
                errors.push(FieldError::invalid(
                    &path,
                    next.as_str(),
                    "list must be sorted alphabetically",
                ));
            }
        }
    }
}

fn pod_ranges(errors: &mut FieldErrors, spec: &NodeSpec, path: &FieldPath) {
    let ranges = spec.pod_cidrs.as_deref().unwrap_or_default();
    for (index, range) in ranges.iter().enumerate() {
        addresses::legacy_cidr(errors, range, &path.index(index), &[]);
    }
    let addresses = ranges
        .iter()
        .map(|range| range.split('/').next().unwrap_or_default());
    if ranges.len() > 2 || ranges.len() == 2 && !addresses::is_dual_stack(addresses) {
        errors.push(FieldError::invalid(
            path,
            json(ranges),
            "may specify no more than one CIDR for each IP family",
        ));
    }
}

/// Where a source of configuration stands; nobody reads it any more, but its rules hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Spec,
    Status,
}

fn config_status(errors: &mut FieldErrors, status: &NodeStatus) {
    let Some(config) = &status.config else { return };
    let path = path(&["status", "config"]);
    for (field, source) in [
        ("assigned", &config.assigned),
        ("active", &config.active),
        ("lastKnownGood", &config.last_known_good),
    ] {
        if let Some(source) = source {
            config_source(errors, source, Place::Status, &path.child(field));
        }
    }
}

fn config_source(
    errors: &mut FieldErrors,
    source: &NodeConfigSource,
    place: Place,
    path: &FieldPath,
) {
    if let Some(map) = &source.config_map {
        config_map(errors, map, place, &path.child("configMap"));
    } else {
        let why = "exactly one reference subfield must be non-nil";
        errors.push(FieldError::invalid(path, json!({"ConfigMap": null}), why));
    }
}

fn config_map(
    errors: &mut FieldErrors,
    map: &ConfigMapNodeConfigSource,
    place: Place,
    path: &FieldPath,
) {
    for (field, value) in [
        ("uid", &map.uid),
        ("resourceVersion", &map.resource_version),
    ] {
        match (place, text(value).is_empty()) {
            (Place::Spec, false) => {
                errors.push(FieldError::forbidden(
                    &path.child(field),
                    format!("{field} must not be set in spec"),
                ));
            }
            (Place::Status, true) => errors.push(FieldError::required(&path.child(field), "")),
            _ => (),
        }
    }
    let fields: [(&str, &String, fn(&mut FieldErrors, &str, &FieldPath)); 3] = [
        ("namespace", &map.namespace, names::dns_label),
        ("name", &map.name, names::dns_subdomain),
        (
            "kubeletConfigKey",
            &map.kubelet_config_key,
            names::config_key,
        ),
    ];
    for (field, value, rule) in fields {
        if value.is_empty() {
            required(errors, value, &path.child(field));
        } else {
            rule(errors, value, &path.child(field));
        }
    }
}
