//! Sources of volumes that pods and persistent volumes share, and paths inside of volumes.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, FCVolumeSource, FlockerVolumeSource,
    GCEPersistentDiskVolumeSource, GitRepoVolumeSource, HostPathVolumeSource, ISCSIVolumeSource,
    NFSVolumeSource, PhotonPersistentDiskVolumeSource, PortworxVolumeSource, QuobyteVolumeSource,
    VsphereVirtualDiskVolumeSource,
};

use crate::validation::numbers::{in_range, outside};
use crate::validation::patterns::Expression;
use crate::validation::{names, one_of, required, text};

const PORTAL_CHARACTERS_MAX: usize = 64;
const TENANT_CHARACTERS_MAX: usize = 64;
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// The sources of one volume: the first is looked into, every further one is refused.
pub(crate) struct Sources<'a> {
    errors: &'a mut FieldErrors,
    path: &'a FieldPath,
    has_one: bool,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(errors: &'a mut FieldErrors, path: &'a FieldPath) -> Self {
        Self {
            errors,
            path,
            has_one: false,
        }
    }

    pub(crate) fn check<T>(
        &mut self,
        source: Option<&T>,
        field: &str,
        check: impl FnOnce(&mut FieldErrors, &T, &FieldPath),
    ) {
        self.check_at(source, field, field, check);
    }

    /// Some sources are named differently in the error for a second one.
    pub(crate) fn check_at<T>(
        &mut self,
        source: Option<&T>,
        second: &str,
        field: &str,
        check: impl FnOnce(&mut FieldErrors, &T, &FieldPath),
    ) {
        let Some(source) = source else { return };
        if self.has_one {
            let why = "may not specify more than 1 volume type";
            self.errors
                .push(FieldError::forbidden(&self.path.child(second), why));
            return;
        }
        self.has_one = true;
        check(self.errors, source, &self.path.child(field));
    }

    /// A volume without a source is refused too.
    pub(crate) fn end(self) {
        if !self.has_one {
            self.errors.push(FieldError::required(
                self.path,
                "must specify a volume type",
            ));
        }
    }
}

pub(crate) fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

pub(crate) fn no_backsteps(errors: &mut FieldErrors, target: &str, path: &FieldPath) {
    if has_backsteps(target) {
        errors.push(FieldError::invalid(path, target, "must not contain '..'"));
    }
}

/// A path below where it starts.
pub(crate) fn local_descending_path(errors: &mut FieldErrors, target: &str, path: &FieldPath) {
    if target.starts_with('/') {
        errors.push(FieldError::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(errors, target, path);
}

/// As [`local_descending_path`]; what starts with two dots belongs to the kubelet.
pub(crate) fn local_non_reserved_path(errors: &mut FieldErrors, target: &str, path: &FieldPath) {
    local_descending_path(errors, target, path);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(FieldError::invalid(
            path,
            target,
            "must not start with '..'",
        ));
    }
}

pub(crate) fn host_path(errors: &mut FieldErrors, source: &HostPathVolumeSource, path: &FieldPath) {
    if source.path.is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
        return;
    }
    no_backsteps(errors, &source.path, &path.child("path"));
    if let Some(kind) = &source.type_ {
        one_of(errors, kind, &HOST_PATH_TYPES, &path.child("type"));
    }
}

pub(super) fn git_repo(errors: &mut FieldErrors, source: &GitRepoVolumeSource, path: &FieldPath) {
    required(errors, &source.repository, &path.child("repository"));
    local_descending_path(errors, text(&source.directory), &path.child("directory"));
}

pub(crate) fn gce_disk(
    errors: &mut FieldErrors,
    disk: &GCEPersistentDiskVolumeSource,
    path: &FieldPath,
) {
    required(errors, &disk.pd_name, &path.child("pdName"));
    partition(errors, disk.partition, &path.child("partition"));
}

pub(crate) fn aws_disk(
    errors: &mut FieldErrors,
    disk: &AWSElasticBlockStoreVolumeSource,
    path: &FieldPath,
) {
    required(errors, &disk.volume_id, &path.child("volumeID"));
    partition(errors, disk.partition, &path.child("partition"));
}

fn partition(errors: &mut FieldErrors, partition: Option<i32>, path: &FieldPath) {
    if let Some(number) = partition.filter(|number| !(0..=255).contains(number)) {
        errors.push(FieldError::invalid(path, number, outside(1, 255)));
    }
}

pub(crate) fn nfs(errors: &mut FieldErrors, source: &NFSVolumeSource, path: &FieldPath) {
    required(errors, &source.server, &path.child("server"));
    required(errors, &source.path, &path.child("path"));
    if !source.path.starts_with('/') {
        errors.push(FieldError::invalid(
            &path.child("path"),
            source.path.as_str(),
            "must be an absolute path",
        ));
    }
}

pub(super) fn iscsi(
    errors: &mut FieldErrors,
    source: &ISCSIVolumeSource,
    volume: &str,
    path: &FieldPath,
) {
    required(errors, &source.target_portal, &path.child("targetPortal"));
    if source.iqn.is_empty() {
        errors.push(FieldError::required(&path.child("iqn"), ""));
    } else {
        let why = "must be valid format starting with iqn, eui, or naa";
        iscsi_initiator(errors, &source.iqn, why, &path.child("iqn"));
    }
    in_range(errors, source.lun, 0, 255, &path.child("lun"));
    let authenticates =
        source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    if authenticates && source.secret_ref.is_none() {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
    if let Some(initiator) = &source.initiator_name {
        let why = "must be valid format starting with iqn, eui, or naa";
        iscsi_initiator(errors, initiator, why, &path.child("initiatorname"));
        if volume.len() + 1 + source.target_portal.len() > PORTAL_CHARACTERS_MAX {
            let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
            errors.push(FieldError::invalid(&path.child("name"), volume, why));
        }
    }
}

/// Names of targets and initiators (RFC 3720).
pub(crate) fn iscsi_initiator(
    errors: &mut FieldErrors,
    name: &str,
    unknown: &str,
    path: &FieldPath,
) {
    static QUALIFIED: Expression =
        Expression::new(r"iqn\.\d{4}-\d{2}\.([[:alnum:]\-.]+)(:[^,;*&$|\s]+)$");
    static EUI: Expression = Expression::new("^eui.[[:alnum:]]{16}$");
    static NAA: Expression = Expression::new("^naa.[[:alnum:]]{32}$");
    let why = match name.get(..3) {
        Some("iqn") if QUALIFIED.matches(name) => return,
        Some("eui") if EUI.matches(name) => return,
        Some("naa") if NAA.matches(name) => return,
        Some("iqn" | "eui" | "naa") => "must be valid format",
        _ => unknown,
    };
    errors.push(FieldError::invalid(path, name, why));
}

pub(crate) fn fibre_channel(errors: &mut FieldErrors, source: &FCVolumeSource, path: &FieldPath) {
    let names = source.target_wwns.as_deref().unwrap_or_default();
    let has_ids = source.wwids.as_ref().is_some_and(|ids| !ids.is_empty());
    let path_of_names = path.child("targetWWNs");
    if names.is_empty() && !has_ids {
        let why = "must specify either targetWWNs or wwids, but not both";
        errors.push(FieldError::required(&path_of_names, why));
    }
    if !names.is_empty() && has_ids {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(FieldError::invalid(&path_of_names, names.to_vec(), why));
    }
    if !names.is_empty() {
        match source.lun {
            None => errors.push(FieldError::required(
                &path.child("lun"),
                "lun is required if targetWWNs is specified",
            )),
            Some(lun) => in_range(errors, lun, 0, 255, &path.child("lun")),
        }
    }
}

pub(crate) fn flocker(errors: &mut FieldErrors, source: &FlockerVolumeSource, path: &FieldPath) {
    let (name, uuid) = (text(&source.dataset_name), text(&source.dataset_uuid));
    if name.is_empty() && uuid.is_empty() {
        errors.push(FieldError::required(
            path,
            "one of datasetName and datasetUUID is required",
        ));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(path, "resource", why));
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(
            &path.child("datasetName"),
            name,
            "must not contain '/'",
        ));
    }
}

pub(crate) fn ceph_monitors(errors: &mut FieldErrors, monitors: &[String], path: &FieldPath) {
    if monitors.is_empty() {
        errors.push(FieldError::required(&path.child("monitors"), ""));
    }
}

pub(crate) fn image_of_rbd(errors: &mut FieldErrors, image: &str, path: &FieldPath) {
    required(errors, image, &path.child("image"));
}

pub(crate) fn cinder(
    errors: &mut FieldErrors,
    volume: &str,
    secret: Option<&str>,
    path: &FieldPath,
) {
    required(errors, volume, &path.child("volumeID"));
    if let Some(secret) = secret {
        required(errors, secret, &path.child("secretRef").child("name"));
    }
}

pub(crate) fn quobyte(errors: &mut FieldErrors, source: &QuobyteVolumeSource, path: &FieldPath) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    if source.registry.is_empty() {
        errors.push(FieldError::required(&path.child("registry"), PAIRS));
    } else if text(&source.tenant).len() > TENANT_CHARACTERS_MAX {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&path.child("tenant"), why));
    } else {
        for pair in source.registry.split(',') {
            let is_pair = pair
                .rsplit_once(':')
                .is_some_and(|(host, _)| !host.contains(':') || host.starts_with('['));
            if !is_pair {
                errors.push(FieldError::invalid(
                    &path.child("registry"),
                    source.registry.as_str(),
                    PAIRS,
                ));
            }
        }
    }
    required(errors, &source.volume, &path.child("volume"));
}

pub(crate) fn flex(
    errors: &mut FieldErrors,
    driver: &str,
    options: Option<&BTreeMap<String, String>>,
    path: &FieldPath,
) {
    required(errors, driver, &path.child("driver"));
    for key in options.into_iter().flatten().map(|(key, _)| key.as_str()) {
        let namespace = format!(
            ".{}",
            key.split_once('/')
                .map_or(key, |(namespace, _)| namespace)
                .to_lowercase()
        );
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(
                &path.child("options").key(key),
                key,
                why,
            ));
        }
    }
}

pub(crate) fn azure_file(errors: &mut FieldErrors, secret: &str, share: &str, path: &FieldPath) {
    required(errors, secret, &path.child("secretName"));
    required(errors, share, &path.child("shareName"));
}

pub(crate) fn azure_disk(errors: &mut FieldErrors, disk: &AzureDiskVolumeSource, path: &FieldPath) {
    const MANAGED: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str =
        "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    required(errors, &disk.disk_name, &path.child("diskName"));
    required(errors, &disk.disk_uri, &path.child("diskURI"));
    if let Some(mode) = &disk.caching_mode {
        one_of(
            errors,
            mode,
            &["None", "ReadOnly", "ReadWrite"],
            &path.child("cachingMode"),
        );
    }
    if let Some(kind) = &disk.kind {
        one_of(
            errors,
            kind,
            &["Dedicated", "Managed", "Shared"],
            &path.child("kind"),
        );
        let path = path.child("diskURI");
        if kind == "Managed" && !disk.disk_uri.starts_with("/subscriptions/") {
            errors.push(FieldError::not_supported(
                &path,
                disk.disk_uri.as_str(),
                &[MANAGED],
            ));
        }
        if kind != "Managed" && !disk.disk_uri.starts_with("https://") {
            errors.push(FieldError::not_supported(
                &path,
                disk.disk_uri.as_str(),
                &[BLOB],
            ));
        }
    }
}

pub(crate) fn vsphere(
    errors: &mut FieldErrors,
    disk: &VsphereVirtualDiskVolumeSource,
    path: &FieldPath,
) {
    required(errors, &disk.volume_path, &path.child("volumePath"));
}

pub(crate) fn photon(
    errors: &mut FieldErrors,
    disk: &PhotonPersistentDiskVolumeSource,
    path: &FieldPath,
) {
    required(errors, &disk.pd_id, &path.child("pdID"));
}

pub(crate) fn portworx(errors: &mut FieldErrors, volume: &PortworxVolumeSource, path: &FieldPath) {
    required(errors, &volume.volume_id, &path.child("volumeID"));
}

pub(crate) fn scale_io(
    errors: &mut FieldErrors,
    gateway: &str,
    system: &str,
    volume: &str,
    path: &FieldPath,
) {
    required(errors, gateway, &path.child("gateway"));
    required(errors, system, &path.child("system"));
    required(errors, volume, &path.child("volumeName"));
}

pub(crate) fn storage_os(
    errors: &mut FieldErrors,
    volume: &str,
    namespace: &str,
    secret: Option<&str>,
    path: &FieldPath,
) {
    if volume.is_empty() {
        errors.push(FieldError::required(&path.child("volumeName"), ""));
    } else {
        names::dns_label(errors, volume, &path.child("volumeName"));
    }
    if !namespace.is_empty() {
        names::dns_label(errors, namespace, &path.child("volumeNamespace"));
    }
    if let Some(secret) = secret {
        required(errors, secret, &path.child("secretRef").child("name"));
    }
}
