//! Volumes of a pod: each has a name of its own and exactly one source.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::{FieldError, FieldErrors, FieldPath, Quantity, dns1123_subdomain_error};
use k8s_openapi::api::core::v1::{
    CSIVolumeSource, ConfigMapVolumeSource, EphemeralVolumeSource, KeyToPath, SecretVolumeSource,
    Volume,
};

use super::claims::claim_spec;
use super::spec::Holder;
use super::volume_sources::{self as sources, Sources};
use super::{containers, projected};
use crate::validation::{amounts, found, names, numbers, required, text};

/// Names of the good volumes, and whether each can be a block device.
pub(super) type KnownVolumes = BTreeMap<String, bool>;

pub(super) fn volumes(
    errors: &mut FieldErrors,
    volumes: &[Volume],
    holder: Holder<'_>,
    path: &FieldPath,
) -> KnownVolumes {
    let pod_name = match holder {
        Holder::Pod(metadata) => metadata.name.as_deref().filter(|name| !name.is_empty()),
        Holder::Template => None,
    };
    let made: BTreeSet<String> = volumes
        .iter()
        .filter(|volume| volume.ephemeral.is_some())
        .filter_map(|volume| pod_name.map(|pod| format!("{pod}-{}", volume.name)))
        .collect();
    let mut known = KnownVolumes::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let own = found(|errors| {
            source(errors, volume, pod_name, holder, &path);
            if volume.name.is_empty() {
                errors.push(FieldError::required(&path.child("name"), ""));
            } else {
                names::dns_label(errors, &volume.name, &path.child("name"));
            }
            if known.contains_key(&volume.name) {
                errors.push(FieldError::duplicate(
                    &path.child("name"),
                    volume.name.as_str(),
                ));
            }
        });
        if own.is_empty() {
            known.insert(
                volume.name.clone(),
                volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some(),
            );
        }
        errors.extend(own);
        if let Some(claim) = volume
            .persistent_volume_claim
            .as_ref()
            .filter(|claim| made.contains(&claim.claim_name))
        {
            let path = path.child("persistentVolumeClaim").child("claimName");
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(FieldError::invalid(&path, claim.claim_name.as_str(), why));
        }
    }
    known
}

// tidy: allow(function-length): one arm a volume source
fn source(
    errors: &mut FieldErrors,
    volume: &Volume,
    pod_name: Option<&str>,
    holder: Holder<'_>,
    path: &FieldPath,
) {
    let mut all = Sources::new(errors, path);
    all.check(
        volume.empty_dir.as_ref(),
        "emptyDir",
        |errors, directory, path| {
            if directory
                .size_limit
                .as_ref()
                .is_some_and(|limit| amounts::amount(limit) < Quantity::ZERO)
            {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(&path.child("sizeLimit"), why));
            }
        },
    );
    all.check(volume.host_path.as_ref(), "hostPath", sources::host_path);
    all.check(volume.git_repo.as_ref(), "gitRepo", sources::git_repo);
    all.check_at(
        volume.gce_persistent_disk.as_ref(),
        "gcePersistentDisk",
        "persistentDisk",
        sources::gce_disk,
    );
    all.check(
        volume.aws_elastic_block_store.as_ref(),
        "awsElasticBlockStore",
        sources::aws_disk,
    );
    all.check(volume.secret.as_ref(), "secret", secret);
    all.check(volume.nfs.as_ref(), "nfs", sources::nfs);
    all.check(volume.iscsi.as_ref(), "iscsi", |errors, iscsi, path| {
        sources::iscsi(errors, iscsi, &volume.name, path);
    });
    all.check(
        volume.glusterfs.as_ref(),
        "glusterfs",
        |errors, gluster, path| {
            required(errors, &gluster.endpoints, &path.child("endpoints"));
            required(errors, &gluster.path, &path.child("path"));
        },
    );
    all.check(volume.flocker.as_ref(), "flocker", sources::flocker);
    all.check(
        volume.persistent_volume_claim.as_ref(),
        "persistentVolumeClaim",
        |errors, claim, path| {
            required(errors, &claim.claim_name, &path.child("claimName"));
        },
    );
    network_sources(&mut all, volume);
    all.check_at(
        volume.downward_api.as_ref(),
        "downwarAPI",
        "downwardAPI",
        projected::downward_api,
    );
    all.check(volume.fc.as_ref(), "fc", sources::fibre_channel);
    all.check(
        volume.flex_volume.as_ref(),
        "flexVolume",
        |errors, flex, path| {
            sources::flex(errors, &flex.driver, flex.options.as_ref(), path);
        },
    );
    all.check(volume.config_map.as_ref(), "configMap", config_map);
    cloud_sources(&mut all, volume);
    all.check(volume.projected.as_ref(), "projected", projected::projected);
    all.check(
        volume.scale_io.as_ref(),
        "scaleIO",
        |errors, scale, path| {
            sources::scale_io(
                errors,
                &scale.gateway,
                &scale.system,
                text(&scale.volume_name),
                path,
            );
        },
    );
    all.check(volume.csi.as_ref(), "csi", csi);
    all.check(
        volume.ephemeral.as_ref(),
        "ephemeral",
        |errors, source, own| {
            ephemeral(errors, source, own);
            generated_claim(errors, pod_name, &volume.name, path);
        },
    );
    all.check(volume.image.as_ref(), "image", |errors, image, path| {
        if holder.is_pod() {
            required(errors, text(&image.reference), &path.child("reference"));
        }
        containers::pull_policy(errors, text(&image.pull_policy), &path.child("pullPolicy"));
    });
    all.end();
}

fn network_sources(all: &mut Sources<'_>, volume: &Volume) {
    all.check(volume.rbd.as_ref(), "rbd", |errors, rbd, path| {
        sources::ceph_monitors(errors, &rbd.monitors, path);
        sources::image_of_rbd(errors, &rbd.image, path);
    });
    all.check(volume.cinder.as_ref(), "cinder", |errors, cinder, path| {
        let secret = cinder
            .secret_ref
            .as_ref()
            .map(|secret| secret.name.as_str());
        sources::cinder(errors, &cinder.volume_id, secret, path);
    });
    all.check_at(
        volume.cephfs.as_ref(),
        "cephFS",
        "cephfs",
        |errors, ceph, path| {
            sources::ceph_monitors(errors, &ceph.monitors, path);
        },
    );
    all.check(volume.quobyte.as_ref(), "quobyte", sources::quobyte);
}

fn cloud_sources(all: &mut Sources<'_>, volume: &Volume) {
    all.check(
        volume.azure_file.as_ref(),
        "azureFile",
        |errors, file, path| {
            sources::azure_file(errors, &file.secret_name, &file.share_name, path);
        },
    );
    all.check(
        volume.vsphere_volume.as_ref(),
        "vsphereVolume",
        sources::vsphere,
    );
    all.check(
        volume.photon_persistent_disk.as_ref(),
        "photonPersistentDisk",
        sources::photon,
    );
    all.check(
        volume.portworx_volume.as_ref(),
        "portworxVolume",
        sources::portworx,
    );
    all.check(volume.azure_disk.as_ref(), "azureDisk", sources::azure_disk);
    all.check(
        volume.storageos.as_ref(),
        "storageos",
        |errors, storage, path| {
            let secret = storage
                .secret_ref
                .as_ref()
                .map(|secret| secret.name.as_str());
            sources::storage_os(
                errors,
                text(&storage.volume_name),
                text(&storage.volume_namespace),
                secret,
                path,
            );
        },
    );
}

pub(super) fn key_to_path(errors: &mut FieldErrors, item: &KeyToPath, path: &FieldPath) {
    required(errors, &item.key, &path.child("key"));
    required(errors, &item.path, &path.child("path"));
    sources::local_non_reserved_path(errors, &item.path, &path.child("path"));
    numbers::file_mode(errors, item.mode, &path.child("mode"));
}

fn secret(errors: &mut FieldErrors, secret: &SecretVolumeSource, path: &FieldPath) {
    required(errors, text(&secret.secret_name), &path.child("secretName"));
    numbers::file_mode(errors, secret.default_mode, &path.child("defaultMode"));
    for (index, item) in secret.items.iter().flatten().enumerate() {
        key_to_path(errors, item, &path.child("items").index(index));
    }
}

fn config_map(errors: &mut FieldErrors, map: &ConfigMapVolumeSource, path: &FieldPath) {
    required(errors, &map.name, &path.child("name"));
    numbers::file_mode(errors, map.default_mode, &path.child("defaultMode"));
    for (index, item) in map.items.iter().flatten().enumerate() {
        key_to_path(errors, item, &path.child("items").index(index));
    }
}

fn csi(errors: &mut FieldErrors, csi: &CSIVolumeSource, path: &FieldPath) {
    names::csi_driver(errors, &csi.driver, &path.child("driver"));
    match csi
        .node_publish_secret_ref
        .as_ref()
        .map(|secret| secret.name.as_str())
    {
        Some("") => errors.push(FieldError::required(
            &path.child("nodePublishSecretRef").child("name"),
            "",
        )),
        Some(name) => names::dns_subdomain(errors, name, &path.child("name")),
        None => {}
    }
}

/// The claim that will be made has only labels and annotations of its own.
fn ephemeral(errors: &mut FieldErrors, ephemeral: &EphemeralVolumeSource, path: &FieldPath) {
    let path = path.child("volumeClaimTemplate");
    let Some(template) = &ephemeral.volume_claim_template else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    if let Some(metadata) = &template.metadata {
        let path = path.child("metadata");
        names::annotations(
            errors,
            metadata.annotations.as_ref(),
            &path.child("annotations"),
        );
        names::labels(errors, metadata.labels.as_ref(), &path.child("labels"));
        let rest = apimachinery::to_tree(metadata).unwrap_or_default();
        for (field, _) in rest.as_object().into_iter().flatten() {
            if !matches!(field.as_str(), "annotations" | "labels") {
                errors.push(FieldError::forbidden(&path.child(field), "cannot be set"));
            }
        }
    }
    claim_spec(errors, &template.spec, &path.child("spec"));
}

/// The claim's name is made of the pod's and the volume's.
fn generated_claim(
    errors: &mut FieldErrors,
    pod_name: Option<&str>,
    volume: &str,
    path: &FieldPath,
) {
    if let Some(pod) = pod_name.filter(|_| !volume.is_empty()) {
        let claim = format!("{pod}-{volume}");
        if let Some(why) = dns1123_subdomain_error(&claim) {
            errors.push(FieldError::invalid(
                &path.child("name"),
                volume,
                format!("PVC name {claim:?}: {why}"),
            ));
        }
    }
}
