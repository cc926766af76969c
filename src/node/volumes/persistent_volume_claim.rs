//! `persistentVolumeClaim` and `ephemeral`: a claim that is bound to a directory of this node.

use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, PersistentVolume, PersistentVolumeClaim as Claim, Volume,
};

use crate::error::{Error, Result, blocking};
use crate::host_path;
use crate::ownership::{Access, give_to_group};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

pub(crate) struct PersistentVolumeClaim;

#[async_trait]
impl VolumePlugin for PersistentVolumeClaim {
    fn name(&self) -> &'static str {
        "kubernetes.io~local-volume"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let source = request.volume.persistent_volume_claim.as_ref();
        let pod_name = request.pod.metadata.name.as_deref().unwrap_or_default();
        // The claim of an ephemeral volume is named after pod and volume, and belongs to the pod.
        let name = source.map_or_else(
            || format!("{pod_name}-{}", request.volume.name),
            |source| source.claim_name.clone(),
        );
        let shared = request.shared;
        let claim = shared
            .objects
            .persistent_volume_claim(request.namespace(), &name)
            .await
            .map_err(Error::Source)?;
        let claim = claim.ok_or_else(|| Error::NotFound {
            kind: "persistentvolumeclaim",
            name: name.clone(),
        })?;
        if source.is_none() && !is_owned_by(&claim, request) {
            return Err(Error::Invalid(format!(
                "PVC {}/{name} was not created for pod {pod_name} (pod is not owner)",
                request.namespace()
            )));
        }
        let volume_name = bound_volume(&claim, request.namespace(), &name)?;
        let volume = shared
            .objects
            .persistent_volume(&volume_name)
            .await
            .map_err(Error::Source)?;
        let volume = volume.ok_or_else(|| Error::NotFound {
            kind: "persistentvolume",
            name: volume_name.clone(),
        })?;
        check_claimed(&volume, &claim, &volume_name)?;
        let read_only = source.and_then(|source| source.read_only).unwrap_or(false);
        let mounted = prepare(request, volume, &volume_name, read_only).await?;
        Ok(MountedVolume {
            read_only: read_only || mounted.read_only,
            ..mounted
        })
    }
}

fn is_owned_by(claim: &Claim, request: &Request<'_>) -> bool {
    let uid = request.pod.metadata.uid.as_deref().unwrap_or_default();
    let owners = claim.metadata.owner_references.iter().flatten();
    owners
        .into_iter()
        .any(|owner| owner.uid == uid && owner.controller == Some(true))
}

fn bound_volume(claim: &Claim, namespace: &str, name: &str) -> Result<String> {
    let fail = |why: &str| {
        Err(Error::Invalid(format!(
            "error processing PVC {namespace}/{name}: {why}"
        )))
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return fail("PVC is being deleted");
    }
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let volume = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone())
        .filter(|volume| !volume.is_empty());
    match (phase, volume) {
        (Some("Bound"), Some(volume)) => Ok(volume),
        _ => fail("PVC is not bound"),
    }
}

fn check_claimed(volume: &PersistentVolume, claim: &Claim, name: &str) -> Result<()> {
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    match reference.map(|reference| reference.uid.as_deref()) {
        Some(uid) if uid == claim.metadata.uid.as_deref() => Ok(()),
        None => Err(Error::Invalid(format!(
            "found PV object {name} that is not claimed"
        ))),
        Some(_) => Err(Error::Invalid(format!(
            "found PV object {name} with a claim of another PVC"
        ))),
    }
}

async fn prepare(
    request: &Request<'_>,
    volume: PersistentVolume,
    name: &str,
    read_only: bool,
) -> Result<MountedVolume> {
    let spec = volume.spec.unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(Error::Unsupported(String::from(
            "persistent volumes of mode Block",
        )));
    }
    if let Some(source) = spec.host_path {
        return blocking(move || host_path::prepare(&source)).await;
    }
    let Some(source) = spec.local else {
        return Err(Error::Unsupported(format!(
            "persistent volumes other than hostPath and local (volume {name:?})"
        )));
    };
    let (group, policy) = (request.fs_group(), request.change_policy());
    let access = if read_only {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let host_path = blocking(move || {
        let path = local_directory(&source)?;
        if let Some(group) = group {
            give_to_group(&path, group, access, policy)?;
        }
        Ok(path)
    })
    .await?;
    Ok(MountedVolume {
        host_path,
        read_only,
        idmap: true,
    })
}

fn local_directory(source: &LocalVolumeSource) -> Result<PathBuf> {
    let path = PathBuf::from(&source.path);
    let metadata = std::fs::metadata(&path).map_err(Error::io("read", &path))?;
    if metadata.is_dir() {
        Ok(path)
    } else {
        Err(Error::Unsupported(format!(
            "local volumes that are no directory ({})",
            source.path
        )))
    }
}
