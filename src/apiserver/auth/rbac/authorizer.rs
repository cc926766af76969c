//! The policy as an authorizer, kept current by whoever watches roles and bindings.

use apimachinery::ObjectKey;
use async_trait::async_trait;
use parking_lot::RwLock;

use super::policy::{Policy, PolicyChange, RoleRef};
use super::rule::Rule;
use crate::{Attributes, Authorizer, Decision, User};
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct RbacAuthorizer {
    policy: RwLock<Policy>,
}

impl RbacAuthorizer {
    /// Takes in one change of a role or binding; `resource` is the plural.
    pub fn apply(&self, resource: &str, key: &ObjectKey, change: PolicyChange<'_>) {
        self.policy.write().apply(resource, key, change);
    }

    /// Takes all objects of one resource at once, and forgets those it had; nobody is judged by a half of it.
    pub fn replace<'a>(
        &self,
        resource: &str,
        objects: impl Iterator<Item = (ObjectKey, &'a [u8])>,
    ) {
        let mut policy = self.policy.write();
        policy.forget(resource);
        for (key, json) in objects {
            policy.apply(resource, &key, PolicyChange::Set(json));
        }
    }

    /// Every rule that holds for `user` in `namespace` (empty: in the whole cluster).
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.policy.read().rules_for(user, namespace)
    }

    pub fn rules_of(&self, reference: &RoleRef, namespace: &str) -> Option<Arc<[Rule]>> {
        self.policy.read().rules_of(reference, namespace)
    }
}

#[async_trait]
impl Authorizer for RbacAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        match self.policy.read().allows(attributes) {
            Some(reason) => Decision::Allow { reason },
            None => Decision::NoOpinion {
                reason: String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(objects: &[(&str, &str, &str)]) -> RbacAuthorizer {
        let authorizer = RbacAuthorizer::default();
        for (resource, key, json) in objects {
            let key = match key.split_once('/') {
                Some((namespace, name)) => ObjectKey::namespaced(namespace, name),
                None => ObjectKey::cluster(*key),
            };
            authorizer.apply(resource, &key, PolicyChange::Set(json.as_bytes()));
        }
        authorizer
    }

    async fn decide(
        authorizer: &RbacAuthorizer,
        user: User,
        namespace: &str,
        verb: &str,
    ) -> Decision {
        let attributes = Attributes {
            user,
            verb: verb.to_owned(),
            namespace: namespace.to_owned(),
            resource: "pods".to_owned(),
            ..Attributes::default()
        };
        authorizer.authorize(&attributes).await
    }

    #[tokio::test]
    async fn a_role_binding_to_a_cluster_role_holds_in_its_namespace_only() {
        let authorizer = policy(&[
            (
                "clusterroles",
                "view",
                r#"{"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}"#,
            ),
            (
                "rolebindings",
                "a/b",
                r#"{"subjects":[{"kind":"ServiceAccount","name":"s"}],"roleRef":{"kind":"ClusterRole","name":"view"}}"#,
            ),
        ]);
        let user = User::named("system:serviceaccount:a:s", &[]);
        assert!(
            decide(&authorizer, user.clone(), "a", "get")
                .await
                .is_allowed()
        );
        assert!(
            !decide(&authorizer, user.clone(), "a", "list")
                .await
                .is_allowed()
        );
        assert!(!decide(&authorizer, user, "c", "get").await.is_allowed());
    }
}
