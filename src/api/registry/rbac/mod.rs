//! Kinds of the group `rbac`, one file each.

pub(crate) mod bindings;
pub mod cluster_role;
pub mod role;
mod validation;

use k8s_openapi::api::rbac::v1::{RoleRef, Subject};

use crate::pod_template::default_text;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What a binding names without a group is of the RBAC group; service accounts are of the core group.
fn default_references(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    default_text(&mut role.api_group, GROUP);
    for subject in subjects
        .into_iter()
        .flatten()
        .filter(|subject| subject.kind != "ServiceAccount")
    {
        default_text(&mut subject.api_group, GROUP);
    }
}

/// The subjects of one kind, as a cell lists them.
fn subjects(subjects: Option<&Vec<Subject>>, kind: &str) -> String {
    let names: Vec<String> = subjects
        .into_iter()
        .flatten()
        .filter(|subject| subject.kind == kind)
        .map(|subject| match subject.namespace.as_deref() {
            Some(namespace) if kind == "ServiceAccount" && !namespace.is_empty() => {
                format!("{namespace}/{}", subject.name)
            }
            _ => subject.name.clone(),
        })
        .collect();
    names.join(", ")
}
