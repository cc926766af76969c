//! The roles and bindings that every cluster begins with.

use apimachinery::Object;

/// Upstream's `rbac/bootstrap-roles`: facts, taken from a running control plane of the version that we serve.
const UPSTREAM: &str = include_str!("bootstrap.json");
/// What our own components need besides.
const COMBO: &str = include_str!("combo_roles.json");

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings; those in namespaces come last.
pub fn bootstrap_objects() -> Vec<Object> {
    let read = |table: &str| -> Vec<Object> {
        serde_json::from_str(table).expect("the tables are valid JSON, a test reads them")
    };
    let mut objects = read(UPSTREAM);
    objects.extend(read(COMBO));
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
            ("ClusterRole", "combo:network"),
            ("ClusterRoleBinding", "cluster-admin"),
            ("Role", "extension-apiserver-authentication-reader"),
        ] {
            assert!(objects.iter().any(|object| object.kind() == kind && object.name() == name), "{kind} {name}");
        }
    }
}
