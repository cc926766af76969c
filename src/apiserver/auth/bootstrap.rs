//! The roles and bindings that every cluster begins with.

use apimachinery::Object;
use serde_json::{Value, json};

/// Upstream's `rbac/bootstrap-roles`: facts, taken from a running control plane of the version that we serve.
const UPSTREAM: &str = include_str!("bootstrap.json");
const CONTROLLER_PREFIX: &str = "system:controller:";
/// What our own components need besides.
const COMBO: &str = include_str!("combo_roles.json");

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings; those in namespaces come last.
pub fn bootstrap_objects() -> Vec<Object> {
    let read = |table: &str| -> Vec<Object> {
        serde_json::from_str(table).expect("the tables are valid JSON, a test reads them")
    };
    let mut objects = read(UPSTREAM);
    let patches: Vec<Object> = objects
        .iter()
        .filter(|object| object.name().starts_with(CONTROLLER_PREFIX))
        .filter_map(for_patch)
        .collect();
    objects.extend(patches);
    objects.extend(read(COMBO));
    objects.sort_by_key(|object| !object.namespace().is_empty());
    objects
}

/// The same role or binding again for the verb `patch`: our controllers patch where upstream's update, which is no more power.
/// Upstream's own objects stay as they are, because clients compare them.
fn for_patch(upstream: &Object) -> Option<Object> {
    let name = format!(
        "combo:controller:{}",
        upstream.name().strip_prefix(CONTROLLER_PREFIX)?
    );
    let mut ours = upstream.clone();
    ours.set_metadata_text("name", name.clone());
    ours.set_at(
        &["metadata", "labels"],
        json!({"kubernetes.io/bootstrapping": "combo-defaults"}),
    );
    if upstream.kind() == "ClusterRoleBinding" {
        ours.set_at(&["roleRef", "name"], name.into());
        return Some(ours);
    }
    let Some(Value::Array(rules)) = ours.0.get_mut("rules") else {
        return None;
    };
    let updates = |rule: &Value| {
        rule["verbs"]
            .as_array()
            .is_some_and(|verbs| verbs.iter().any(|verb| verb == "update"))
    };
    rules.retain(updates);
    rules
        .iter_mut()
        .for_each(|rule| rule["verbs"] = json!(["patch"]));
    Some(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_roles_that_clients_expect() {
        let objects = bootstrap_objects();
        for (kind, name) in [
            ("ClusterRole", "cluster-admin"),
            ("ClusterRole", "system:node-proxier"),
            ("ClusterRole", "system:auth-delegator"),
            ("ClusterRole", "combo:network"),
            ("ClusterRoleBinding", "cluster-admin"),
            ("Role", "extension-apiserver-authentication-reader"),
        ] {
            assert!(
                objects
                    .iter()
                    .any(|object| object.kind() == kind && object.name() == name),
                "{kind} {name}"
            );
        }
    }
}
