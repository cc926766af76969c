//! ServiceAccount: every pod runs as one, and gets its token mounted unless it says no.

use std::sync::Arc;

use apimachinery::{ApiError, Object, ObjectKey, StoredObject};
use async_trait::async_trait;
use auth::Objects;
use serde_json::{Value, json};

use crate::{AdmissionRequest, Operation, Plugin};

const DEFAULT_ACCOUNT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
const TOKEN_SECONDS: i64 = 3607;

#[derive(Debug)]
pub(crate) struct ServiceAccount {
    objects: Arc<dyn Objects>,
}

impl ServiceAccount {
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn account(
        &self,
        request: &AdmissionRequest<'_>,
        name: &str,
    ) -> Result<StoredObject, ApiError> {
        let key = ObjectKey::namespaced(request.namespace, name);
        self.objects
            .get("", "serviceaccounts", &key)
            .await
            .ok_or_else(|| {
                request.forbidden(format!(
                    "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                    request.namespace
                ))
            })
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !request.is_for("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        if pod.annotation(MIRROR).is_some() {
            return refuse_references_of_mirror(request);
        }
        if pod.text_at(&["spec", "serviceAccountName"]).is_empty() {
            pod.set_at(&["spec", "serviceAccountName"], DEFAULT_ACCOUNT.into());
        }
        let name = pod.text_at(&["spec", "serviceAccountName"]);
        pod.set_at(&["spec", "serviceAccount"], name.clone().into());
        let account: Value = self
            .account(request, &name)
            .await?
            .decode()
            .map_err(ApiError::internal)?;
        if account["metadata"]["annotations"][ENFORCE_MOUNTABLE] == "true" {
            check_mountable(request, &account)?;
        }
        let Some(pod) = request.object.as_deref_mut() else {
            return Ok(());
        };
        if should_mount(pod, &account) {
            mount_token(pod);
        }
        let has_pull_secrets = pod
            .at(&["spec", "imagePullSecrets"])
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
        if let (false, Some(secrets)) = (has_pull_secrets, account["imagePullSecrets"].as_array()) {
            pod.set_at(&["spec", "imagePullSecrets"], secrets.clone().into());
        }
        Ok(())
    }
}

fn refuse_references_of_mirror(request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let Some(pod) = request.object.as_deref() else {
        return Ok(());
    };
    if !pod.text_at(&["spec", "serviceAccountName"]).is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    let text = pod.at(&["spec"]).map(Value::to_string).unwrap_or_default();
    if text.contains("\"secretKeyRef\"")
        || text.contains("\"secretRef\"")
        || text.contains("\"secretName\"")
    {
        return Err(request.forbidden("a mirror pod may not reference secrets"));
    }
    let projects_token = pod
        .at(&["spec", "volumes"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|volume| {
            volume["projected"]["sources"]
                .as_array()
                .is_some_and(|sources| {
                    sources
                        .iter()
                        .any(|source| source["serviceAccountToken"].is_object())
                })
        });
    if projects_token {
        return Err(
            request.forbidden("a mirror pod may not use ServiceAccountToken volume projections")
        );
    }
    Ok(())
}

fn should_mount(pod: &Object, account: &Value) -> bool {
    pod.at(&["spec", "automountServiceAccountToken"])
        .and_then(Value::as_bool)
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true)
}

fn check_mountable(request: &AdmissionRequest<'_>, account: &Value) -> Result<(), ApiError> {
    let Some(pod) = request.object.as_deref() else {
        return Ok(());
    };
    let mountable = |name: &Value| {
        account["secrets"]
            .as_array()
            .is_some_and(|secrets| secrets.iter().any(|secret| secret["name"] == *name))
    };
    for volume in pod
        .at(&["spec", "volumes"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let secret = &volume["secret"]["secretName"];
        if secret.is_string() && !mountable(secret) {
            return Err(request.forbidden(format!(
                "volume with secret.secretName={secret} is not allowed because service account {} does not reference that secret",
                account["metadata"]["name"].as_str().unwrap_or_default()
            )));
        }
    }
    Ok(())
}

/// Adds the projected token volume and a mount in every container that has nothing else there.
fn mount_token(pod: &mut Object) {
    let mut volumes = pod
        .at(&["spec", "volumes"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let present = volumes
        .iter()
        .find(|volume| {
            volume["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(VOLUME_PREFIX))
                && volume["projected"].is_object()
        })
        .and_then(|volume| volume["name"].as_str().map(str::to_owned));
    // The name needs to be new in the pod only, and the pod's own text is chance enough for it.
    let name = present
        .clone()
        .unwrap_or_else(|| apimachinery::generate_name(VOLUME_PREFIX, digest_of(pod)));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = pod.at(&["spec", list]).cloned() else {
            continue;
        };
        let changed: Vec<Value> = containers
            .into_iter()
            .map(|mut container| {
                mounted |= add_mount(&mut container, &name);
                container
            })
            .collect();
        pod.set_at(&["spec", list], changed.into());
    }
    if mounted && present.is_none() {
        volumes.push(token_volume(&name));
        pod.set_at(&["spec", "volumes"], volumes.into());
    }
}

fn add_mount(container: &mut Value, volume: &str) -> bool {
    let mounts = container["volumeMounts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
        return false;
    }
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    container["volumeMounts"] = mounts.into_iter().chain([mount]).collect();
    true
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef":
            {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

/// FNV-1a over the pod's JSON.
fn digest_of(pod: &Object) -> u64 {
    let text = serde_json::to_vec(pod).unwrap_or_default();
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
