//! Kubernetes' own types from JSON and to it, by way of bytes alone: serde makes code for each pair of a type and a source or
//! sink, so a second one, such as a tree, would double the largest part of the program.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::zero_times;

/// Reads a typed value; times that must be there and are null are those that were never set.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    // Rare enough to try the short way first.
    read(json).or_else(|error| {
        let Ok(mut tree) = serde_json::from_slice(json) else {
            return Err(error);
        };
        zero_times::spell_out(&mut tree);
        read(tree.to_string().as_bytes())
    })
}

/// Reads a typed value out of a tree.
pub fn from_tree<T: DeserializeOwned>(tree: &Value) -> Result<T, serde_json::Error> {
    from_json(tree.to_string().as_bytes())
}

#[inline(never)]
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(json)
}

/// Writes a typed value.
#[inline(never)]
pub fn to_json<T: Serialize + ?Sized>(typed: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(typed)
}

/// A typed value as a tree.
pub fn to_tree<T: Serialize + ?Sized>(typed: &T) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(&to_json(typed)?)
}

macro_rules! shared {
    ($($module:ident::$version:ident::{$($kind:ident),* $(,)?}),* $(,)?) => {
        /// The code of the kinds. Crates that are compiled for size take generic code from a crate below them where that has
        /// it, and each would compile it for itself where none has.
        pub fn shared_code() -> Vec<*const ()> {
            use k8s_openapi::api::{
                admissionregistration, apps, authentication, authorization, autoscaling, batch,
                certificates, coordination, core, discovery, events, flowcontrol, networking,
                node, policy, rbac, resource, scheduling, storage,
            };
            use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
            use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
            vec![$($(
                from_json::<$module::$version::$kind> as *const (),
                read::<$module::$version::$kind> as *const (),
                to_json::<$module::$version::$kind> as *const (),
            )*)*]
        }
    };
}

shared! {
    admissionregistration::v1::{
        MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
        ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
    },
    apiextensions::v1::{CustomResourceDefinition},
    apiregistration::v1::{APIService},
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview},
    authorization::v1::{
        LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
        SubjectAccessReview,
    },
    autoscaling::v1::{HorizontalPodAutoscaler, Scale},
    autoscaling::v2::{HorizontalPodAutoscaler},
    batch::v1::{CronJob, Job},
    certificates::v1::{CertificateSigningRequest},
    coordination::v1::{Lease},
    core::v1::{
        Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
        PersistentVolume, PersistentVolumeClaim, Pod, PodStatus, PodTemplate,
        ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
    },
    discovery::v1::{EndpointSlice},
    events::v1::{Event},
    flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
    networking::v1::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
    node::v1::{RuntimeClass},
    policy::v1::{Eviction, PodDisruptionBudget},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
    scheduling::v1::{PriorityClass},
    storage::v1::{
        CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
        VolumeAttributesClass,
    },
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Event;
    use k8s_openapi::api::events::v1::Event as NewEvent;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    use super::{from_json, to_tree};

    #[test]
    fn a_time_that_must_be_there_and_is_null_was_never_set() {
        let json =
            br#"{"type":"a","status":"b","reason":"c","message":"","lastTransitionTime":null}"#;
        let condition: Condition = from_json(json).expect("a condition");
        assert!(!crate::zero_times::is_set(
            condition.last_transition_time.0.as_second()
        ));
    }

    #[test]
    fn what_does_not_fit_says_where() {
        let error = from_json::<Event>(br#"{"count":"many"}"#).expect_err("no number");
        assert!(error.to_string().contains("\"many\""), "{error}");
    }

    #[test]
    fn a_typed_value_is_the_tree_that_it_is_written_as() {
        let event = NewEvent {
            reason: Some("Started".to_owned()),
            ..NewEvent::default()
        };
        let tree = to_tree(&event).expect("plain data");
        assert_eq!(
            (&tree["kind"], &tree["reason"]),
            (&json!("Event"), &json!("Started"))
        );
    }
}
