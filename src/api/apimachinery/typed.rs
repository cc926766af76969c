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
            use k8s_openapi::api;
            use k8s_openapi::apiextensions_apiserver::pkg::apis as apiextensions_apis;
            use k8s_openapi::kube_aggregator::pkg::apis as aggregator_apis;
            use api::*;
            use apiextensions_apis::apiextensions;
            use aggregator_apis::apiregistration;
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
