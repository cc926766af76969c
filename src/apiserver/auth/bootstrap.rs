//! The roles and bindings that every cluster begins with, as upstream's `rbac/bootstrap-roles` hook makes them.

use apimachinery::Object;

/// Facts, taken from a running control plane of the version that we serve.
const BOOTSTRAP: &str = include_str!("bootstrap.json");

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings; roles and bindings in namespaces come last.
pub fn bootstrap_objects() -> Vec<Object> {
    let mut objects: Vec<Object> = serde_json::from_str(BOOTSTRAP).expect("the table is valid JSON, a test reads it");
    objects.sort_by_key(|object| !object.namespace().is_empty());
    objects
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
            ("ClusterRoleBinding", "cluster-admin"),
            ("Role", "extension-apiserver-authentication-reader"),
        ] {
            assert!(objects.iter().any(|object| object.kind() == kind && object.name() == name), "{kind} {name}");
        }
    }
}
