//! Which nodes a pod may run on by its node selector and node affinity, and which it would like.

use apimachinery::{Operator, Requirement};
use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PreferredSchedulingTerm,
};

/// What node selectors look at.
pub trait NodeLabels {
    fn name(&self) -> &str;
    fn label(&self, key: &str) -> Option<&str>;
}

/// Does the node fit `spec.nodeSelector` and the required node affinity?
pub fn required_matches(spec: &PodSpec, node: &dyn NodeLabels) -> bool {
    let selected = spec.node_selector.iter().flatten();
    let is_selected = selected
        .into_iter()
        .all(|(key, value)| node.label(key) == Some(value.as_str()));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    is_selected && required.is_none_or(|selector| selector_matches(selector, node))
}

/// The sum of the weights of preferred terms that the node fits.
pub fn preferred_weight(spec: &PodSpec, node: &dyn NodeLabels) -> i64 {
    let preferred = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default();
    let fits = |term: &&PreferredSchedulingTerm| {
        term.weight != 0 && preference_matches(&term.preference, node)
    };
    preferred
        .iter()
        .filter(fits)
        .map(|term| i64::from(term.weight))
        .sum()
}

/// Terms are alternatives; a term without requirements matches no node.
pub fn selector_matches(selector: &NodeSelector, node: &dyn NodeLabels) -> bool {
    selector
        .node_selector_terms
        .iter()
        .any(|term| term_matches(term, node))
}

/// The nodes that a required affinity names by `metadata.name`, if each of its terms names them.
pub fn named_nodes(spec: &PodSpec) -> Option<Vec<String>> {
    let required = spec
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut names = Vec::new();
    for term in &required.node_selector_terms {
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let by_name = fields
            .iter()
            .find(|field| field.key == "metadata.name" && field.operator == "In")?;
        names.extend(by_name.values.iter().flatten().cloned());
    }
    Some(names)
}

fn term_matches(term: &NodeSelectorTerm, node: &dyn NodeLabels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    all_match(expressions, fields, node)
}

/// A preferred term, unlike a required one, matches every node when it is empty.
fn preference_matches(term: &NodeSelectorTerm, node: &dyn NodeLabels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    all_match(expressions, fields, node)
}

fn all_match(
    expressions: &[NodeSelectorRequirement],
    fields: &[NodeSelectorRequirement],
    node: &dyn NodeLabels,
) -> bool {
    expressions
        .iter()
        .all(|wanted| requirement_matches(wanted, node.label(&wanted.key)))
        && fields.iter().all(|wanted| {
            wanted.key == "metadata.name" && requirement_matches(wanted, Some(node.name()))
        })
}

fn requirement_matches(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let operator = match wanted.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return false,
    };
    let values = wanted.values.iter().flatten().cloned().collect();
    Requirement {
        key: wanted.key.clone(),
        operator,
        values,
    }
    .matches(value)
}
