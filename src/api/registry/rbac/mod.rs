//! Kinds of the group `rbac`, one file each.

pub mod cluster_role;
pub mod cluster_role_binding;
pub mod role;
pub mod role_binding;

use k8s_openapi::api::rbac::v1::{RoleRef, Subject};

use crate::pod_template::default_text;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What a binding names without a group is of the RBAC group; service accounts are of the core group.
fn default_references(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    default_text(&mut role.api_group, GROUP);
    for subject in subjects.into_iter().flatten().filter(|subject| subject.kind != "ServiceAccount") {
        default_text(&mut subject.api_group, GROUP);
    }
}
