//! Volumes made of other objects: projected ones, and the downward API.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath,
    PodCertificateProjection, ProjectedVolumeSource, ServiceAccountTokenProjection,
    VolumeProjection,
};

use super::environment::{field_reference, resource_reference_in_volume};
use super::volume_sources::local_non_reserved_path;
use super::volumes::key_to_path;
use crate::certificates::signer_names::{is_kubernetes_signer, signer_name};
use crate::validation::{changes, names, numbers, one_of, required, selectors};

const FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const CERTIFICATE_SECONDS_MIN: i32 = 3600;
const CERTIFICATE_SECONDS_MAX: i32 = 91 * 24 * 3600;
const KUBERNETES_CERTIFICATE_SECONDS_MAX: i32 = 24 * 3600;

pub(super) fn downward_api(
    errors: &mut FieldErrors,
    source: &DownwardAPIVolumeSource,
    path: &FieldPath,
) {
    numbers::file_mode(errors, source.default_mode, &path.child("defaultMode"));
    for file in source.items.iter().flatten() {
        downward_file(errors, file, path);
    }
}

fn downward_file(errors: &mut FieldErrors, file: &DownwardAPIVolumeFile, path: &FieldPath) {
    required(errors, &file.path, &path.child("path"));
    local_non_reserved_path(errors, &file.path, &path.child("path"));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            field_reference(errors, field, &FIELDS, &path.child("fieldRef"));
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", why));
            }
        }
        (None, Some(resource)) => {
            resource_reference_in_volume(errors, resource, &path.child("resourceFieldRef"));
        }
        (None, None) => errors.push(FieldError::required(
            path,
            "one of fieldRef and resourceFieldRef is required",
        )),
    }
    numbers::file_mode(errors, file.mode, &path.child("mode"));
}

/// Paths that files of one volume take; each only once.
struct Paths<'a> {
    taken: BTreeSet<String>,
    volume: &'a FieldPath,
}

impl Paths<'_> {
    fn take(&mut self, errors: &mut FieldErrors, target: &str, shown: &str) {
        if !self.taken.insert(target.to_owned()) {
            errors.push(FieldError::invalid(
                self.volume,
                shown,
                "conflicting duplicate paths",
            ));
        }
    }

    fn take_items(
        &mut self,
        errors: &mut FieldErrors,
        items: Option<&Vec<KeyToPath>>,
        name: &str,
        path: &FieldPath,
    ) {
        for (index, item) in items.into_iter().flatten().enumerate() {
            key_to_path(errors, item, &path.child("items").index(index));
            if !item.path.is_empty() {
                self.take(errors, &item.path, name);
            }
        }
    }
}

pub(super) fn projected(
    errors: &mut FieldErrors,
    projected: &ProjectedVolumeSource,
    path: &FieldPath,
) {
    numbers::file_mode(errors, projected.default_mode, &path.child("defaultMode"));
    let mut paths = Paths {
        taken: BTreeSet::new(),
        volume: path,
    };
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let item = path.child("sources").index(index);
        let given = one_source(errors, source, &mut paths, &item);
        if given > 1 {
            errors.push(FieldError::forbidden(
                &item,
                "may not specify more than 1 volume type per source",
            ));
        }
    }
}

/// Judges each kind of source that is given, and says how many are.
fn one_source(
    errors: &mut FieldErrors,
    source: &VolumeProjection,
    paths: &mut Paths<'_>,
    path: &FieldPath,
) -> usize {
    let mut given = 0;
    if let Some(secret) = &source.secret {
        given += 1;
        let path = path.child("secret");
        required(errors, &secret.name, &path.child("name"));
        paths.take_items(errors, secret.items.as_ref(), &secret.name, &path);
    }
    if let Some(map) = &source.config_map {
        given += 1;
        let path = path.child("configMap");
        required(errors, &map.name, &path.child("name"));
        paths.take_items(errors, map.items.as_ref(), &map.name, &path);
    }
    if let Some(downward) = &source.downward_api {
        given += 1;
        for file in downward.items.iter().flatten() {
            downward_file(errors, file, &path.child("downwardAPI"));
            if !file.path.is_empty() {
                paths.take(errors, &file.path, &file.path);
            }
        }
    }
    if let Some(token) = &source.service_account_token {
        given += 1;
        let path = path.child("serviceAccountToken");
        service_account_token(errors, token, paths.volume, &path);
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        given += 1;
        trust_bundle(errors, bundle, paths, &path.child("clusterTrustBundle"));
    }
    if let Some(certificate) = &source.pod_certificate {
        given += 1;
        pod_certificate(errors, certificate, paths, &path.child("podCertificate"));
    }
    given
}

/// The path of the file is told from the volume, as upstream does.
fn service_account_token(
    errors: &mut FieldErrors,
    token: &ServiceAccountTokenProjection,
    volume: &FieldPath,
    path: &FieldPath,
) {
    let seconds = token.expiration_seconds.unwrap_or(0);
    let path = path.child("expirationSeconds");
    if seconds < TOKEN_SECONDS_MIN {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > TOKEN_SECONDS_MAX {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if token.path.is_empty() {
        errors.push(FieldError::required(&volume.child("path"), ""));
    } else {
        local_non_reserved_path(errors, &token.path, &volume.child("path"));
    }
}

fn trust_bundle(
    errors: &mut FieldErrors,
    bundle: &ClusterTrustBundleProjection,
    paths: &mut Paths<'_>,
    path: &FieldPath,
) {
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => {
            let why = "only one of name and signerName may be used";
            errors.push(FieldError::invalid(path, changes::json(bundle), why));
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.push(FieldError::required(
                    &path.child("name"),
                    "must be a valid object name",
                ));
            }
            bundle_name(errors, name, &path.child("name"));
            if bundle.label_selector.is_some() {
                let why = "labelSelector must be unset if name is specified";
                let shown = changes::json(&bundle.label_selector);
                errors.push(FieldError::invalid(
                    &path.child("labelSelector"),
                    shown,
                    why,
                ));
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                errors.push(FieldError::required(
                    &path.child("signerName"),
                    "must be a valid signer name",
                ));
            }
            signer_name(errors, signer, &path.child("signerName"));
            selectors::label_selector(
                errors,
                bundle.label_selector.as_ref(),
                &path.child("labelSelector"),
            );
        }
        (None, None) => errors.push(FieldError::required(
            path,
            "either name or signerName must be specified",
        )),
    }
    required(errors, &bundle.path, &path.child("path"));
    local_non_reserved_path(errors, &bundle.path, &path.child("path"));
    paths.take(errors, &bundle.path, &bundle.path);
}

/// `signer:domain:name`, or a name without colons.
fn bundle_name(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    let (prefix, own) = match name.rsplit_once(':') {
        Some((prefix, own)) => (Some(prefix), own),
        None => (None, name),
    };
    if let Some(why) = apimachinery::dns1123_subdomain_error(own) {
        let why = match prefix {
            Some(_) => format!("ClusterTrustBundle name {own:?} is invalid: {why}"),
            None => why,
        };
        errors.push(FieldError::invalid(
            path,
            name,
            format!("not a valid clustertrustbundlename: {why}"),
        ));
    }
}

fn pod_certificate(
    errors: &mut FieldErrors,
    certificate: &PodCertificateProjection,
    paths: &mut Paths<'_>,
    path: &FieldPath,
) {
    signer_name(errors, &certificate.signer_name, &path.child("signerName"));
    for key in certificate
        .user_annotations
        .iter()
        .flatten()
        .map(|(key, _)| key.to_lowercase())
    {
        let path = path.child("userAnnotations");
        names::qualified_name(errors, &key, &path);
        if !key.contains('/') {
            let why = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(&path, key, why));
        }
    }
    let kinds = [
        "RSA3072",
        "RSA4096",
        "ECDSAP256",
        "ECDSAP384",
        "ECDSAP521",
        "ED25519",
    ];
    one_of(
        errors,
        &certificate.key_type,
        &kinds,
        &path.child("keyType"),
    );
    if let Some(seconds) = certificate.max_expiration_seconds {
        let path = path.child("maxExpirationSeconds");
        if seconds < CERTIFICATE_SECONDS_MIN {
            let why = "if provided, maxExpirationSeconds must be >= 3600";
            errors.push(FieldError::invalid(&path, seconds, why));
        }
        let is_ours = is_kubernetes_signer(&certificate.signer_name);
        let max = if is_ours {
            KUBERNETES_CERTIFICATE_SECONDS_MAX
        } else {
            CERTIFICATE_SECONDS_MAX
        };
        if seconds > max {
            let why = format!("if provided, maxExpirationSeconds must be <= {max}");
            errors.push(FieldError::invalid(&path, seconds, why));
        }
    }
    let mut count = 0;
    for (target, field) in [
        (&certificate.credential_bundle_path, "credentialBundlePath"),
        (&certificate.key_path, "keyPath"),
        (&certificate.certificate_chain_path, "certificateChainPath"),
    ] {
        if let Some(target) = target.as_deref().filter(|target| !target.is_empty()) {
            count += 1;
            local_non_reserved_path(errors, target, &path.child(field));
            paths.take(errors, target, target);
        }
    }
    if count == 0 {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(FieldError::required(path, why));
    }
}
