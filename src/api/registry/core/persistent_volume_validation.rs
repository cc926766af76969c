//! What a PersistentVolume must be. Its source never changes.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, ISCSIPersistentVolumeSource, PersistentVolume, PersistentVolumeSpec,
    SecretReference,
};

use crate::pod_template::validation as sources;
use crate::pod_template::validation::{ACCESS_MODES, Sources, VOLUME_MODES, access_modes};
use crate::validation::changes::{difference, immutable, json};
use crate::validation::{amounts, found, names, one_of, path, required, selectors, text};

const RECLAIM_POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const LOGICAL_UNITS_MAX: i64 = 255;

pub(super) fn validate(volume: &PersistentVolume) -> FieldErrors {
    let spec = volume.spec.clone().unwrap_or_default();
    let path = FieldPath::new("spec");
    found(|errors| {
        modes(errors, &spec, &path);
        capacity(errors, &spec, &path.child("capacity"));
        if let Some(policy) = spec
            .persistent_volume_reclaim_policy
            .as_deref()
            .filter(|policy| !policy.is_empty())
        {
            one_of(
                errors,
                policy,
                &RECLAIM_POLICIES,
                &path.child("persistentVolumeReclaimPolicy"),
            );
        }
        if let Some(affinity) = &spec.node_affinity {
            let path = path.child("nodeAffinity").child("required");
            match &affinity.required {
                None => errors.push(FieldError::required(
                    &path,
                    "must specify required node constraints",
                )),
                Some(selector) => selectors::node_selector(errors, selector, &path),
            }
        }
        one_source(errors, &spec, &path);
        let is_root = spec
            .host_path
            .as_ref()
            .is_some_and(|host| is_root(&host.path));
        if is_root && text(&spec.persistent_volume_reclaim_policy) == "Recycle" {
            let why = "may not be 'recycle' for a hostPath mount of '/'";
            errors.push(FieldError::forbidden(
                &path.child("persistentVolumeReclaimPolicy"),
                why,
            ));
        }
        if let Some(class) = spec
            .storage_class_name
            .as_deref()
            .filter(|class| !class.is_empty())
        {
            names::dns_subdomain(errors, class, &path.child("storageClassName"));
        }
        if let Some(mode) = &spec.volume_mode {
            one_of(errors, mode, &VOLUME_MODES, &path.child("volumeMode"));
        }
        attributes_class(errors, &spec, &path);
    })
}

pub(super) fn validate_change(volume: &PersistentVolume, old: &PersistentVolume) -> FieldErrors {
    let (new, old) = (
        volume.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    found(|errors| {
        let (mut new_source, old_source) = (source_only(&new), source_only(&old));
        // The secret for growing a volume may be told later.
        if let (Some(new), Some(old)) = (&mut new_source.csi, &old_source.csi)
            && old.controller_expand_secret_ref.is_none()
        {
            new.controller_expand_secret_ref = None;
        }
        if new_source != old_source {
            let changes = difference(&old_source, &new_source);
            let why = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
            errors.push(FieldError::forbidden(
                &path(&["spec", "persistentvolumesource"]),
                why,
            ));
        }
        immutable(
            errors,
            &new.volume_mode,
            &old.volume_mode,
            &FieldPath::new("volumeMode"),
        );
        if old.node_affinity.is_some() && new.node_affinity != old.node_affinity {
            let why = "field is immutable, except for updating from beta label to GA";
            errors.push(FieldError::invalid(
                &FieldPath::new("nodeAffinity"),
                json(&new.node_affinity),
                why,
            ));
        }
        if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none()
        {
            let path = path(&["spec", "volumeAttributesClassName"]);
            errors.push(FieldError::forbidden(
                &path,
                "update from non-nil value to nil is forbidden",
            ));
        }
    })
}

/// A volume that an attachment describes itself, as migration from in-tree drivers needs it.
pub(crate) fn inline_volume(
    errors: &mut FieldErrors,
    spec: &PersistentVolumeSpec,
    path: &FieldPath,
) {
    let forbidden = [
        (spec.claim_ref.is_some(), "claimRef"),
        (
            spec.capacity.as_ref().is_some_and(|all| !all.is_empty()),
            "capacity",
        ),
        (spec.node_affinity.is_some(), "nodeAffinity"),
        (
            !text(&spec.storage_class_name).is_empty(),
            "storageClassName",
        ),
    ];
    for (_, field) in forbidden.into_iter().filter(|(is_set, _)| *is_set) {
        let why = "may not be specified in the context of inline volumes";
        errors.push(FieldError::forbidden(&path.child(field), why));
    }
    if spec.csi.is_none() {
        let why = "has to be specified in the context of inline volumes";
        errors.push(FieldError::required(&path.child("csi"), why));
    }
    modes(errors, spec, path);
    if !matches!(text(&spec.persistent_volume_reclaim_policy), "" | "Retain") {
        let why = "may only be Retain in the context of inline volumes";
        errors.push(FieldError::forbidden(
            &path.child("persistentVolumeReclaimPolicy"),
            why,
        ));
    }
    one_source(errors, spec, path);
    if !matches!(text(&spec.volume_mode), "" | "Filesystem") {
        let why =
            "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(FieldError::forbidden(&path.child("volumeMode"), why));
    }
}

fn modes(errors: &mut FieldErrors, spec: &PersistentVolumeSpec, path: &FieldPath) {
    let path = path.child("accessModes");
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    debug_assert!(ACCESS_MODES.is_sorted());
    access_modes(errors, modes, &path);
}

fn capacity(errors: &mut FieldErrors, spec: &PersistentVolumeSpec, path: &FieldPath) {
    let capacity = spec.capacity.clone().unwrap_or_default();
    if capacity.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(FieldError::not_supported(
            path,
            json(&spec.capacity),
            &["storage"],
        ));
    }
    for (name, amount) in &capacity {
        amounts::basic_amount(errors, amount, &path.key(name));
        amounts::positive_quantity(errors, amount, &path.key(name));
    }
}

fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

fn attributes_class(errors: &mut FieldErrors, spec: &PersistentVolumeSpec, path: &FieldPath) {
    let Some(class) = &spec.volume_attributes_class_name else {
        return;
    };
    let class_path = path.child("volumeAttributesClassName");
    if class.is_empty() {
        errors.push(FieldError::required(
            &class_path,
            "an empty string is disallowed",
        ));
    } else {
        names::dns_subdomain(errors, class, &class_path);
    }
    if spec.csi.is_none() {
        let why = "has to be specified when using volumeAttributesClassName";
        errors.push(FieldError::required(&path.child("csi"), why));
    }
}

/// The spec without what is not the source.
fn source_only(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

// tidy: allow(function-length): one arm a volume source
fn one_source(errors: &mut FieldErrors, spec: &PersistentVolumeSpec, path: &FieldPath) {
    let mut all = Sources::new(errors, path);
    all.check(spec.host_path.as_ref(), "hostPath", sources::host_path);
    all.check(
        spec.gce_persistent_disk.as_ref(),
        "persistentDisk",
        sources::gce_disk,
    );
    all.check(
        spec.aws_elastic_block_store.as_ref(),
        "awsElasticBlockStore",
        sources::aws_disk,
    );
    all.check(
        spec.glusterfs.as_ref(),
        "glusterfs",
        |errors, gluster, path| {
            required(errors, &gluster.endpoints, &path.child("endpoints"));
            required(errors, &gluster.path, &path.child("path"));
        },
    );
    all.check(spec.flocker.as_ref(), "flocker", sources::flocker);
    all.check(spec.nfs.as_ref(), "nfs", sources::nfs);
    all.check(spec.rbd.as_ref(), "rbd", |errors, rbd, path| {
        sources::ceph_monitors(errors, &rbd.monitors, path);
        sources::image_of_rbd(errors, &rbd.image, path);
    });
    all.check(spec.quobyte.as_ref(), "quobyte", sources::quobyte);
    all.check(spec.cephfs.as_ref(), "cephfs", |errors, ceph, path| {
        sources::ceph_monitors(errors, &ceph.monitors, path);
    });
    all.check(spec.iscsi.as_ref(), "iscsi", iscsi);
    all.check(spec.cinder.as_ref(), "cinder", |errors, cinder, path| {
        required(errors, &cinder.volume_id, &path.child("volumeID"));
        secret(errors, cinder.secret_ref.as_ref(), &path.child("secretRef"));
    });
    all.check(spec.fc.as_ref(), "fc", sources::fibre_channel);
    all.check(
        spec.flex_volume.as_ref(),
        "flexVolume",
        |errors, flex, path| {
            sources::flex(errors, &flex.driver, flex.options.as_ref(), path);
        },
    );
    all.check(
        spec.azure_file.as_ref(),
        "azureFile",
        |errors, azure, path| {
            sources::azure_file(errors, &azure.secret_name, &azure.share_name, path);
            if azure.secret_namespace.as_deref() == Some("") {
                errors.push(FieldError::required(&path.child("secretNamespace"), ""));
            }
        },
    );
    all.check(
        spec.vsphere_volume.as_ref(),
        "vsphereVolume",
        sources::vsphere,
    );
    all.check(
        spec.photon_persistent_disk.as_ref(),
        "photonPersistentDisk",
        sources::photon,
    );
    all.check(
        spec.portworx_volume.as_ref(),
        "portworxVolume",
        sources::portworx,
    );
    all.check(spec.azure_disk.as_ref(), "azureDisk", sources::azure_disk);
    all.check(spec.scale_io.as_ref(), "scaleIO", |errors, scale, path| {
        sources::scale_io(
            errors,
            &scale.gateway,
            &scale.system,
            text(&scale.volume_name),
            path,
        );
    });
    all.check(
        spec.local.as_ref(),
        "local",
        |errors, local, source_path| {
            required(errors, &local.path, &source_path.child("path"));
            sources::no_backsteps(errors, &local.path, &source_path.child("path"));
            if spec.node_affinity.is_none() {
                errors.push(FieldError::required(
                    &path.child("nodeAffinity"),
                    "Local volume requires node affinity",
                ));
            }
        },
    );
    all.check(
        spec.storageos.as_ref(),
        "storageos",
        |errors, storage, path| {
            let secret = storage.secret_ref.as_ref().map(|secret| text(&secret.name));
            sources::storage_os(
                errors,
                text(&storage.volume_name),
                text(&storage.volume_namespace),
                secret,
                path,
            );
        },
    );
    all.check(spec.csi.as_ref(), "csi", csi);
    all.end();
}

fn secret(errors: &mut FieldErrors, reference: Option<&SecretReference>, path: &FieldPath) {
    if let Some(reference) = reference {
        required(errors, text(&reference.name), &path.child("name"));
        required(errors, text(&reference.namespace), &path.child("namespace"));
    }
}

fn iscsi(errors: &mut FieldErrors, source: &ISCSIPersistentVolumeSource, path: &FieldPath) {
    required(errors, &source.target_portal, &path.child("targetPortal"));
    if source.iqn.is_empty() {
        errors.push(FieldError::required(&path.child("iqn"), ""));
    } else {
        sources::iscsi_initiator(
            errors,
            &source.iqn,
            "must be valid format",
            &path.child("iqn"),
        );
    }
    crate::validation::numbers::in_range(
        errors,
        source.lun,
        0,
        LOGICAL_UNITS_MAX,
        &path.child("lun"),
    );
    let authenticates =
        source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    if authenticates && source.secret_ref.is_none() {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
    if let Some(reference) = &source.secret_ref {
        required(
            errors,
            text(&reference.name),
            &path.child("secretRef").child("name"),
        );
    }
    if let Some(initiator) = &source.initiator_name {
        sources::iscsi_initiator(
            errors,
            initiator,
            "must be valid format",
            &path.child("initiatorname"),
        );
    }
}

fn csi(errors: &mut FieldErrors, source: &CSIPersistentVolumeSource, path: &FieldPath) {
    names::csi_driver(errors, &source.driver, &path.child("driver"));
    required(errors, &source.volume_handle, &path.child("volumeHandle"));
    for (field, reference) in [
        (
            "controllerPublishSecretRef",
            &source.controller_publish_secret_ref,
        ),
        (
            "controllerExpandSecretRef",
            &source.controller_expand_secret_ref,
        ),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ] {
        secret(errors, reference.as_ref(), &path.child(field));
    }
}

pub(super) fn warnings(volume: &PersistentVolume) -> Vec<String> {
    let Some(spec) = &volume.spec else {
        return Vec::new();
    };
    let annotation = |key: &str| {
        volume
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(key))
    };
    let class = "volume.beta.kubernetes.io/storage-class";
    let options = "volume.beta.kubernetes.io/mount-options";
    let deprecated = [
        (
            annotation(class),
            format!("metadata.annotations[{class}]: deprecated since v1.8; use \"storageClassName\" attribute instead"),
        ),
        (
            annotation(options),
            format!("metadata.annotations[{options}]: deprecated since v1.31; use \"mountOptions\" attribute instead"),
        ),
        (
            text(&spec.persistent_volume_reclaim_policy) == "Recycle",
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach \
             is to use dynamic provisioning."
                .to_owned(),
        ),
        (spec.cephfs.is_some(), "spec.cephfs: deprecated in v1.28, non-functional in v1.31+".to_owned()),
        (
            spec.photon_persistent_disk.is_some(),
            "spec.photonPersistentDisk: deprecated in v1.11, non-functional in v1.16+".to_owned(),
        ),
        (spec.scale_io.is_some(), "spec.scaleIO: deprecated in v1.16, non-functional in v1.22+".to_owned()),
        (spec.storageos.is_some(), "spec.storageOS: deprecated in v1.22, non-functional in v1.25+".to_owned()),
        (spec.glusterfs.is_some(), "spec.glusterfs: deprecated in v1.25, non-functional in v1.26+".to_owned()),
        (spec.rbd.is_some(), "spec.rbd: deprecated in v1.28, non-functional in v1.31+".to_owned()),
    ];
    deprecated
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, warning)| warning)
        .collect()
}
