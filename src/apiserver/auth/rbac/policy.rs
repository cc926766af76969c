//! All roles and bindings, ready to be asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::rule::{Rule, null_is_empty};
use crate::{Attributes, User};
use apimachinery::ObjectKey;

/// Who a binding is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Subject {
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    #[serde(deserialize_with = "null_is_empty")]
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Role {
    #[serde(deserialize_with = "null_is_empty")]
    rules: Vec<Rule>,
}

/// A role or binding that appeared, changed or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyChange<'a> {
    /// The object's JSON.
    Set(&'a [u8]),
    Removed,
}

/// The compiled policy. Roles in namespaces and cluster roles (empty namespace) share one map; so do bindings.
#[derive(Debug, Default)]
pub struct Policy {
    roles: BTreeMap<ObjectKey, Arc<[Rule]>>,
    bindings: BTreeMap<String, BTreeMap<String, Binding>>,
}

impl Subject {
    fn is(&self, user: &User, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() {
                    binding_namespace
                } else {
                    &self.namespace
                };
                !namespace.is_empty() && user.service_account() == Some((namespace, &self.name))
            }
            _ => false,
        }
    }

    fn describe(&self) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => format!("ServiceAccount \"{}/{}\"", self.name, self.namespace),
            kind => format!("{kind} {:?}", self.name),
        }
    }
}

impl Policy {
    /// Takes in one change. `resource` is a plural of the group; others are ignored. An unreadable object grants nothing.
    pub fn apply(&mut self, resource: &str, key: &ObjectKey, change: PolicyChange<'_>) {
        match (resource, change) {
            ("roles" | "clusterroles", PolicyChange::Set(json)) => {
                let rules = serde_json::from_slice::<Role>(json)
                    .unwrap_or_default()
                    .rules;
                self.roles.insert(key.clone(), rules.into());
            }
            ("roles" | "clusterroles", PolicyChange::Removed) => {
                self.roles.remove(key);
            }
            ("rolebindings" | "clusterrolebindings", PolicyChange::Set(json)) => {
                let binding = serde_json::from_slice(json).unwrap_or_default();
                self.bindings
                    .entry(key.namespace.clone())
                    .or_default()
                    .insert(key.name.clone(), binding);
            }
            ("rolebindings" | "clusterrolebindings", PolicyChange::Removed) => {
                if let Some(bindings) = self.bindings.get_mut(&key.namespace) {
                    bindings.remove(&key.name);
                }
            }
            _ => {}
        }
    }

    /// Forgets every role or every binding of one resource.
    pub fn forget(&mut self, resource: &str) {
        match resource {
            "roles" => self.roles.retain(|key, _| key.namespace.is_empty()),
            "clusterroles" => self.roles.retain(|key, _| !key.namespace.is_empty()),
            "rolebindings" => self.bindings.retain(|namespace, _| namespace.is_empty()),
            "clusterrolebindings" => self.bindings.retain(|namespace, _| !namespace.is_empty()),
            _ => {}
        }
    }

    /// The rules that `reference`, found in `namespace`, stands for; `None` if there is no such role.
    pub fn rules_of(&self, reference: &RoleRef, namespace: &str) -> Option<Arc<[Rule]>> {
        let key = match reference.kind.as_str() {
            "ClusterRole" => ObjectKey::cluster(reference.name.clone()),
            _ => ObjectKey::namespaced(namespace, reference.name.clone()),
        };
        self.roles.get(&key).cloned()
    }

    /// Why the request is allowed, in upstream's words; `None` if it is not.
    pub fn allows(&self, attributes: &Attributes) -> Option<String> {
        let mut reason = None;
        self.visit(&attributes.user, &attributes.namespace, &mut |grant| {
            if grant.rules.iter().any(|rule| rule.allows(attributes)) {
                reason = Some(grant.describe());
            }
            reason.is_none()
        });
        reason
    }

    /// Every rule that holds for `user` in `namespace` (empty: in the whole cluster).
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        self.visit(user, namespace, &mut |grant| {
            rules.extend(grant.rules.iter().cloned());
            true
        });
        rules
    }

    fn visit(&self, user: &User, namespace: &str, visitor: &mut dyn FnMut(&Grant<'_>) -> bool) {
        let scopes: &[&str] = if namespace.is_empty() {
            &[""]
        } else {
            &["", namespace]
        };
        for scope in scopes {
            for (name, binding) in self.bindings.get(*scope).into_iter().flatten() {
                let Some(subject) = binding
                    .subjects
                    .iter()
                    .find(|subject| subject.is(user, scope))
                else {
                    continue;
                };
                let Some(rules) = self.rules_of(&binding.role_ref, scope) else {
                    continue;
                };
                if !visitor(&Grant {
                    scope,
                    name,
                    binding,
                    subject,
                    rules,
                }) {
                    return;
                }
            }
        }
    }
}

struct Grant<'a> {
    scope: &'a str,
    name: &'a str,
    binding: &'a Binding,
    subject: &'a Subject,
    rules: Arc<[Rule]>,
}

impl Grant<'_> {
    fn describe(&self) -> String {
        let binding = if self.scope.is_empty() {
            format!("ClusterRoleBinding {:?}", self.name)
        } else {
            format!("RoleBinding {:?}", format!("{}/{}", self.name, self.scope))
        };
        let role = &self.binding.role_ref;
        format!(
            "RBAC: allowed by {binding} of {} {:?} to {}",
            role.kind,
            role.name,
            self.subject.describe()
        )
    }
}
