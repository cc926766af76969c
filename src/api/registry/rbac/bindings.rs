//! What role bindings and cluster role bindings have in common, which is all but how far they reach.

use std::marker::PhantomData;

use apimachinery::{FieldErrors, NameRule};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};

use super::validation::{self, Reach};
use super::{default_references, subjects};
use crate::validation::found;
use crate::{Column, Permission, Strategy, Typed};

/// Objects of kind `RoleBinding`.
pub(crate) type RoleBindings = Bindings<RoleBinding>;
/// Objects of kind `ClusterRoleBinding`.
pub(crate) type ClusterRoleBindings = Bindings<ClusterRoleBinding>;

/// Bindings of one of the two kinds.
#[derive(Debug)]
pub(crate) struct Bindings<B>(PhantomData<B>);

impl<B> Bindings<B> {
    pub(crate) const STRATEGY: Self = Self(PhantomData);
}

/// A kind that gives subjects a role.
pub(crate) trait Binding: Typed {
    const REACH: Reach;
    fn role(&self) -> &RoleRef;
    fn subjects(&self) -> Option<&Vec<Subject>>;
    fn references(&mut self) -> (&mut RoleRef, Option<&mut Vec<Subject>>);
}

impl<B: Binding> Strategy for Bindings<B> {
    type Kind = B;
    const COLUMNS: &'static [Column<B>] = &[
        Column::name(),
        Column::text("Role", |binding, _| {
            let role = binding.role();
            format!("{}/{}", role.kind, role.name).into()
        }),
        Column::age(),
        Column::wide_text("Users", |binding, _| {
            subjects(binding.subjects(), "User").into()
        }),
        Column::wide_text("Groups", |binding, _| {
            subjects(binding.subjects(), "Group").into()
        }),
        Column::wide_text("ServiceAccounts", |binding, _| {
            subjects(binding.subjects(), "ServiceAccount").into()
        }),
    ];
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn default(binding: &mut B) {
        let (role, subjects) = binding.references();
        default_references(role, subjects);
    }

    fn validate(binding: &B) -> FieldErrors {
        found(|errors| {
            validation::binding(errors, binding.role(), binding.subjects(), B::REACH);
        })
    }

    fn validate_update(binding: &B, old: &B) -> FieldErrors {
        found(|errors| validation::same_role(errors, binding.role(), old.role()))
    }
}

impl Binding for RoleBinding {
    const REACH: Reach = Reach::Namespace;

    fn role(&self) -> &RoleRef {
        &self.role_ref
    }

    fn subjects(&self) -> Option<&Vec<Subject>> {
        self.subjects.as_ref()
    }

    fn references(&mut self) -> (&mut RoleRef, Option<&mut Vec<Subject>>) {
        (&mut self.role_ref, self.subjects.as_mut())
    }
}

impl Binding for ClusterRoleBinding {
    const REACH: Reach = Reach::Cluster;

    fn role(&self) -> &RoleRef {
        &self.role_ref
    }

    fn subjects(&self) -> Option<&Vec<Subject>> {
        self.subjects.as_ref()
    }

    fn references(&mut self) -> (&mut RoleRef, Option<&mut Vec<Subject>>) {
        (&mut self.role_ref, self.subjects.as_mut())
    }
}
