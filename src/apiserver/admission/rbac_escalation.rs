//! Nobody writes a role or a binding that grants more than he holds, unless he may escalate or bind.
//!
//! Upstream does this in the storage of the RBAC kinds; here it is a plugin, so that the pipeline has no special case.

use std::sync::Arc;

use apimachinery::{ApiError, Object};
use async_trait::async_trait;
use auth::rbac::{RoleRef, uncovered};
use auth::{Attributes, Authorizer, MASTERS_GROUP, RbacAuthorizer, Rule};
use serde::Deserialize;

use crate::{AdmissionRequest, Operation, Plugin};

const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Debug)]
pub(crate) struct RbacEscalation {
    rbac: Arc<RbacAuthorizer>,
    authorizer: Arc<dyn Authorizer>,
}

impl RbacEscalation {
    pub(crate) fn new(rbac: Arc<RbacAuthorizer>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    async fn may(
        &self,
        request: &AdmissionRequest<'_>,
        verb: &str,
        resource: &str,
        name: &str,
    ) -> bool {
        let attributes = Attributes {
            user: request.user.clone(),
            verb: verb.to_owned(),
            namespace: request.namespace.to_owned(),
            api_group: GROUP.to_owned(),
            api_version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        self.authorizer.authorize(&attributes).await.is_allowed()
    }

    async fn check_role(
        &self,
        request: &AdmissionRequest<'_>,
        role: &Object,
    ) -> Result<(), ApiError> {
        let unchanged = request.old.is_some_and(|old| {
            old.at(&["rules"]) == role.at(&["rules"])
                && old.at(&["aggregationRule"]) == role.at(&["aggregationRule"])
        });
        let resource = request.resource.resource.as_ref();
        if unchanged || self.may(request, "escalate", resource, role.name()).await {
            return Ok(());
        }
        // Aggregated rules are whatever other roles will grant: only who holds everything may ask for them.
        let wanted = match role.at(&["aggregationRule"]).filter(|rule| !rule.is_null()) {
            Some(_) => vec![Rule::resources(&["*"], &["*"], &["*"])],
            None => rules_in(role),
        };
        self.check(request, &wanted)
    }

    async fn check_binding(
        &self,
        request: &AdmissionRequest<'_>,
        binding: &Object,
    ) -> Result<(), ApiError> {
        let unchanged = request.old.is_some_and(|old| {
            old.at(&["roleRef"]) == binding.at(&["roleRef"])
                && old.at(&["subjects"]) == binding.at(&["subjects"])
        });
        let reference = binding
            .at(&["roleRef"])
            .and_then(|value| RoleRef::deserialize(value).ok())
            .unwrap_or_default();
        let resource = if reference.kind == "ClusterRole" {
            "clusterroles"
        } else {
            "roles"
        };
        if unchanged || self.may(request, "bind", resource, &reference.name).await {
            return Ok(());
        }
        match self.rbac.rules_of(&reference, request.namespace) {
            Some(rules) => self.check(request, &rules),
            None => Err(ApiError::not_found(
                &apimachinery::GroupResource::new(GROUP, resource.to_owned()),
                &reference.name,
            )),
        }
    }

    fn check(&self, request: &AdmissionRequest<'_>, wanted: &[Rule]) -> Result<(), ApiError> {
        let held = self.rbac.rules_for(request.user, request.namespace);
        uncovered(&held, wanted).map_err(|error| request.forbidden(error.message(request.user)))
    }
}

fn rules_in(role: &Object) -> Vec<Rule> {
    role.at(&["rules"])
        .and_then(|rules| Vec::<Rule>::deserialize(rules).ok())
        .unwrap_or_default()
}

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RbacEscalation"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, ApiError> {
        let is_write = matches!(request.operation, Operation::Create | Operation::Update);
        if request.resource.group != GROUP || !is_write || request.user.is_in(MASTERS_GROUP) {
            return Ok(Vec::new());
        }
        let Some(object) = request.object.as_deref() else {
            return Ok(Vec::new());
        };
        match request.resource.resource.as_ref() {
            "roles" | "clusterroles" => self.check_role(request, object).await?,
            "rolebindings" | "clusterrolebindings" => self.check_binding(request, object).await?,
            _ => {}
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_without_rules_grants_nothing() {
        let role = Object::from_value(serde_json::json!({"rules": null})).expect("an object");
        assert!(rules_in(&role).is_empty());
    }
}
