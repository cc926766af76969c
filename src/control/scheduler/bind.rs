//! The calls that make decisions true: bindings, conditions, preemptions. Each runs beside the scheduling task.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{Object, ObjectKey};
use controller::{Event, EventRecorder, EventType};
use env::Clock;
use informer::Cache;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use kube_client::{Client, ClientError, DeleteOptions, Patch, resource_of};
use serde_json::json;

use crate::plugins::ClaimPlan;
use crate::pod::{PendingPod, PodInfo};

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Volumes must be bound in this time, or the pod is decided about again.
const VOLUMES_TIMEOUT: Duration = Duration::from_mins(10);

/// Writes as the scheduler.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) events: Arc<EventRecorder>,
    pub(crate) claims: Arc<Cache>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) scheduler_name: String,
}

pub(crate) fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.key().namespace.clone()),
        name: Some(pod.key().name.clone()),
        uid: Some(pod.index.uid.clone()),
        ..ObjectReference::default()
    }
}

impl Writer {
    /// Binds the pod's claims and then the pod.
    pub(crate) async fn bind(
        &self,
        pod: &PodInfo,
        node: &str,
        claims: Vec<ClaimPlan>,
    ) -> Result<(), ClientError> {
        self.bind_claims(node, claims).await?;
        let key = pod.key();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"namespace": key.namespace, "name": key.name, "uid": pod.index.uid},
            "target": {"kind": "Node", "name": node},
        });
        let api = self.client.dynamic(resource_of::<Pod>(), &key.namespace);
        let _status: Object = api
            .create_subresource(&key.name, "binding", &binding)
            .await?;
        self.emit(
            pod,
            EventType::Normal,
            "Scheduled",
            format!("Successfully assigned {key} to {node}"),
        );
        Ok(())
    }

    async fn bind_claims(&self, node: &str, plans: Vec<ClaimPlan>) -> Result<(), ClientError> {
        let mut waiting: Vec<ObjectKey> = Vec::new();
        for plan in plans {
            match plan {
                ClaimPlan::Take { claim, volume } => {
                    self.take(&claim, &volume).await?;
                    waiting.push(claim);
                }
                ClaimPlan::Provision { claim } => {
                    let patch =
                        Patch::Merge(json!({"metadata": {"annotations": {SELECTED_NODE: node}}}));
                    let api = self
                        .client
                        .dynamic(resource_of::<PersistentVolumeClaim>(), &claim.namespace);
                    api.patch(&claim.name, &patch).await?;
                    waiting.push(claim);
                }
            }
        }
        for claim in waiting {
            let is_bound = |cache: &Cache| cache.get(&claim).is_none_or(|claim| is_bound(&claim));
            env::timeout(VOLUMES_TIMEOUT, self.claims.wait_until(is_bound))
                .await
                .map_err(|_timed_out| {
                    ClientError::Malformed(format!(
                        "binding volumes: claim {claim} was not bound in time"
                    ))
                })?;
        }
        Ok(())
    }

    /// Promises a free volume to a claim; the volume controller completes what both sides then agree on.
    async fn take(&self, claim: &ObjectKey, volume: &str) -> Result<(), ClientError> {
        let uid = self
            .claims
            .get(claim)
            .map(|claim| claim.index.uid.clone())
            .unwrap_or_default();
        let api = self.client.dynamic(resource_of::<PersistentVolume>(), "");
        let live = api.get(volume).await?;
        let patch = json!({
            "metadata": {
                "resourceVersion": live.resource_version(), "annotations": {BOUND_BY_CONTROLLER: "yes"},
            },
            "spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace, "name": claim.name, "uid": uid,
            }},
        });
        api.patch(volume, &Patch::Merge(patch))
            .await
            .map(|_patched| ())
    }

    /// Says on the pod and in an event why it waits. A nomination that is `None` stays as it is.
    pub(crate) async fn report(
        &self,
        pod: &PendingPod,
        reason: &str,
        message: &str,
        nomination: Option<&str>,
    ) {
        self.emit(
            &pod.info,
            EventType::Warning,
            "FailedScheduling",
            message.to_owned(),
        );
        let is_said = pod
            .condition
            .as_ref()
            .is_some_and(|(known_reason, known)| known_reason == reason && known == message);
        let nomination = nomination.filter(|node| *node != pod.nominated_node);
        if is_said && nomination.is_none() {
            return;
        }
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null, "observedGeneration": pod.info.index.generation,
        });
        if pod.condition.is_none() {
            condition["lastTransitionTime"] = self.clock.now().to_seconds_string().into();
        }
        let mut status = json!({"conditions": [condition]});
        if let Some(node) = nomination {
            status["nominatedNodeName"] = if node.is_empty() {
                json!(null)
            } else {
                json!(node)
            };
        }
        let patch =
            Patch::Strategic(json!({"metadata": {"uid": pod.info.index.uid}, "status": status}));
        let api = self
            .client
            .dynamic(resource_of::<Pod>(), &pod.info.key().namespace);
        if let Err(error) = api.patch_status(&pod.info.key().name, &patch).await {
            tracing::debug!(pod = %pod.info.key(), %error, "why a pod waits was not written");
        }
    }

    /// Clears a node for a pod: others that wait for it lose it, and victims are told why before they go.
    pub(crate) async fn preempt(
        &self,
        pod: &PodInfo,
        node: &str,
        victims: &[Arc<PodInfo>],
        losing: &[Arc<PodInfo>],
    ) {
        for other in losing {
            let patch = Patch::Merge(json!({"status": {"nominatedNodeName": null}}));
            let api = self
                .client
                .dynamic(resource_of::<Pod>(), &other.key().namespace);
            if let Err(error) = api.patch_status(&other.key().name, &patch).await {
                tracing::debug!(pod = %other.key(), %error, "a nomination was not taken back");
            }
        }
        for victim in victims.iter().filter(|victim| !victim.is_terminating()) {
            match self.remove(victim).await {
                Ok(()) => {
                    let message = format!("Preempted by pod {} on node {node}", pod.index.uid);
                    self.emit(victim, EventType::Normal, "Preempted", message);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => tracing::warn!(pod = %victim.key(), %error, "preemption failed"),
            }
        }
    }

    async fn remove(&self, victim: &PodInfo) -> Result<(), ClientError> {
        let message = format!(
            "{}: preempting to accommodate a higher priority pod",
            self.scheduler_name
        );
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": message, "lastTransitionTime": self.clock.now().to_seconds_string(),
            "observedGeneration": victim.index.generation,
        });
        let patch =
            json!({"metadata": {"uid": victim.index.uid}, "status": {"conditions": [condition]}});
        let api = self
            .client
            .dynamic(resource_of::<Pod>(), &victim.key().namespace);
        api.patch_status(&victim.key().name, &Patch::Strategic(patch))
            .await?;
        api.delete(
            &victim.key().name,
            &DeleteOptions::only(victim.index.uid.clone()),
        )
        .await
        .map(|_left| ())
    }

    pub(crate) fn emit(&self, pod: &PodInfo, event_type: EventType, reason: &str, message: String) {
        self.events.emit(Event {
            regarding: reference(pod),
            event_type,
            reason: reason.to_owned(),
            message,
        });
    }
}

fn is_bound(claim: &apimachinery::StoredObject) -> bool {
    claim.decode::<PersistentVolumeClaim>().is_ok_and(|claim| {
        let is_named = claim
            .spec
            .and_then(|spec| spec.volume_name)
            .is_some_and(|volume| !volume.is_empty());
        let annotations = claim.metadata.annotations.unwrap_or_default();
        is_named && annotations.contains_key(BIND_COMPLETED)
    })
}
