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
    let patches = roles_for_patch(&objects);
    objects.extend(patches);
    objects.extend(read(COMBO));
    objects.sort_by_key(|object| !object.namespace().is_empty());
    objects
}

/// The controllers' roles and their bindings again for the verb `patch`, where a role may update at all: our controllers patch
/// where upstream's update, which is no more power. Upstream's own objects stay as they are, because clients compare them.
fn roles_for_patch(upstream: &[Object]) -> Vec<Object> {
    let of_controllers = |kind| {
        upstream.iter().filter(move |object| {
            object.kind() == kind && object.name().starts_with(CONTROLLER_PREFIX)
        })
    };
    let roles: Vec<Object> = of_controllers("ClusterRole")
        .filter_map(role_for_patch)
        .collect();
    let bindings: Vec<Object> = of_controllers("ClusterRoleBinding")
        .map(|binding| {
            let mut ours = renamed_for_patch(binding);
            let name = ours.name().to_owned();
            ours.set_at(&["roleRef", "name"], name.into());
            ours
        })
        .filter(|binding| roles.iter().any(|role| role.name() == binding.name()))
        .collect();
    roles.into_iter().chain(bindings).collect()
}

fn role_for_patch(upstream: &Object) -> Option<Object> {
    let mut ours = renamed_for_patch(upstream);
    let Some(Value::Array(rules)) = ours.0.get_mut("rules") else {
        return None;
    };
    rules.retain(|rule| {
        rule["verbs"]
            .as_array()
            .is_some_and(|verbs| verbs.iter().any(|verb| verb == "update"))
    });
    rules
        .iter_mut()
        .for_each(|rule| rule["verbs"] = json!(["patch"]));
    (!rules.is_empty()).then_some(ours)
}

fn renamed_for_patch(upstream: &Object) -> Object {
    let name = upstream.name().trim_start_matches(CONTROLLER_PREFIX);
    let mut ours = upstream.clone();
    ours.set_metadata_text("name", format!("combo:controller:{name}"));
    ours.set_at(
        &["metadata", "labels"],
        json!({"kubernetes.io/bootstrapping": "combo-defaults"}),
    );
    ours
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

    #[test]
    fn each_role_of_ours_allows_something_and_each_binding_has_its_role() {
        let objects = bootstrap_objects();
        let ours = |kind: &'static str| {
            objects.iter().filter(move |object| {
                object.kind() == kind && object.name().starts_with("combo:controller:")
            })
        };
        assert_eq!(ours("Role").count() + ours("RoleBinding").count(), 0);
        assert!(ours("ClusterRole").count() > 10);
        for role in ours("ClusterRole") {
            assert_ne!(role.0["rules"], json!([]), "{}", role.name());
        }
        for binding in ours("ClusterRoleBinding") {
            let role = &binding.0["roleRef"]["name"];
            assert!(
                ours("ClusterRole").any(|object| role == object.name()),
                "{}",
                binding.name()
            );
        }
    }
}
