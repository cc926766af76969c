//! Fills cluster roles that are made of others: the rules of every role their selectors match.

use std::sync::Arc;

use apimachinery::{LabelSelector, ObjectKey};
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) struct ClusterRoleAggregation {
    roles: Arc<Cache>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    aggregation_rule: Option<AggregationRule>,
    rules: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AggregationRule {
    #[serde(default)]
    cluster_role_selectors: Vec<Value>,
}

pub(crate) struct View {
    key: ObjectKey,
    standing: Vec<Value>,
    /// The rules of the roles it is made of, in the order of their names.
    parts: Vec<Value>,
}

impl ClusterRoleAggregation {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            roles: factory.all::<ClusterRole>(),
        }
    }
}

impl Controller for ClusterRoleAggregation {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "clusterrole-aggregation-controller";

    fn wakes(&self, on: &mut Wakes) {
        let roles = Arc::clone(&self.roles);
        // Any role may be part of any aggregated one; these are few.
        on.mapped(&self.roles, move |change| {
            let aggregated = |role: &apimachinery::StoredObject| {
                role.decode::<Role>()
                    .is_ok_and(|role| role.aggregation_rule.is_some())
            };
            let mut keys: Vec<ObjectKey> = roles
                .list()
                .iter()
                .filter(|role| aggregated(role))
                .map(|role| role.key().clone())
                .collect();
            keys.extend(
                change
                    .new
                    .as_ref()
                    .filter(|role| aggregated(role))
                    .map(|role| role.key().clone()),
            );
            keys
        });
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let role: Role = self.roles.get(key)?.decode().ok()?;
        let selectors: Vec<LabelSelector> = role
            .aggregation_rule?
            .cluster_role_selectors
            .iter()
            .filter_map(|selector| LabelSelector::from_object(Some(selector)).ok())
            .collect();
        let mut parts: Vec<Value> = Vec::new();
        for selector in &selectors {
            for other in self.roles.list() {
                let is_part =
                    other.key() != key && selector.matches_with(|label| other.index.label(label));
                let rules = is_part
                    .then(|| other.decode::<Role>().ok())
                    .flatten()
                    .and_then(|role| role.rules);
                for rule in rules.into_iter().flatten() {
                    if !parts.contains(&rule) {
                        parts.push(rule);
                    }
                }
            }
        }
        Some(View {
            key: key.clone(),
            standing: role.rules.unwrap_or_default(),
            parts,
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        if view.standing == view.parts {
            return Plan::nothing();
        }
        Plan::of(vec![Action::merge::<ClusterRole>(
            view.key.clone(),
            json!({"rules": view.parts}),
        )])
    }
}
