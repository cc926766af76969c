//! What stands between an authorized write and the store: one file per plugin.

mod certificate_approval;
mod certificate_signers;
mod certificate_signing;
mod certificate_subject_restriction;
mod default_storage_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod plugin;
mod priority;
mod rbac_escalation;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;

use std::sync::Arc;

use auth::{Authorizer, Objects, RbacAuthorizer};

pub use plugin::{AdmissionRequest, Operation, Plugin};

/// What the plugins need of the server.
#[derive(Clone, Debug)]
pub struct Context {
    pub objects: Arc<dyn Objects>,
    pub rbac: Arc<RbacAuthorizer>,
    pub authorizer: Arc<dyn Authorizer>,
}

/// Every plugin that is on, in the order they run: upstream's order.
pub fn plugins(context: &Context) -> Vec<Arc<dyn Plugin>> {
    let objects = &context.objects;
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(
            objects.clone(),
        )),
        Arc::new(service_account::ServiceAccount::new(objects.clone())),
        Arc::new(node_restriction::NodeRestriction::new(objects.clone())),
        Arc::new(taint_nodes_by_condition::TaintNodesByCondition),
        Arc::new(priority::Priority::new(objects.clone())),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Arc::new(runtime_class::RuntimeClass::new(objects.clone())),
        Arc::new(certificate_approval::CertificateApproval::new(
            context.authorizer.clone(),
        )),
        Arc::new(certificate_signing::CertificateSigning::new(
            context.authorizer.clone(),
        )),
        Arc::new(certificate_subject_restriction::CertificateSubjectRestriction),
        Arc::new(default_storage_class::DefaultStorageClass::new(
            objects.clone(),
        )),
        Arc::new(limit_ranger::LimitRanger::new(objects.clone())),
        Arc::new(rbac_escalation::RbacEscalation::new(
            context.rbac.clone(),
            context.authorizer.clone(),
        )),
    ]
}
