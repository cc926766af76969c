//! From a file to a pod: named after the node, with a UID that changes with its content, referring to nothing in the API.

use std::path::Path;

use apimachinery::StoredObject;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use registry::Strategy;
use registry::core::pod::Pods;

use crate::pods::facts::{
    CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE, containers, init_containers, spec,
};
use env::Timestamp;

/// A longer file is no manifest: bytes.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file is not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("read the file")]
    Read(#[source] std::io::Error),
    #[error("the file is larger than {MANIFEST_BYTES_MAX} bytes")]
    TooLarge,
    #[error("{0}")]
    Syntax(String),
    #[error("{0}")]
    Invalid(String),
}

/// Files that are manifests: not hidden, `.yaml`, `.yml` or `.json`.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

pub(crate) fn read(
    path: &Path,
    node_name: &str,
    now: Timestamp,
) -> Result<StoredObject, ManifestError> {
    let metadata = std::fs::metadata(path).map_err(ManifestError::Read)?;
    if metadata.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge);
    }
    let bytes = std::fs::read(path).map_err(ManifestError::Read)?;
    parse(&bytes, path, node_name, now)
}

fn parse(
    bytes: &[u8],
    path: &Path,
    node_name: &str,
    now: Timestamp,
) -> Result<StoredObject, ManifestError> {
    let syntax = |error: &dyn std::fmt::Display| ManifestError::Syntax(error.to_string());
    let yaml = codec::parse_yaml(bytes).map_err(|error| syntax(&error))?;
    if let Some(error) = yaml.strict_error() {
        return Err(ManifestError::Syntax(error));
    }
    let value = yaml
        .document
        .into_value()
        .ok_or_else(|| ManifestError::Syntax("a number is out of range".to_owned()))?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err(ManifestError::Invalid("it holds no v1 Pod".to_owned()));
    }
    let mut pod: Pod =
        apimachinery::from_json(value.to_string().as_bytes()).map_err(|error| syntax(&error))?;
    check_references(&pod)?;
    let hash = hash(bytes, path, node_name);
    let metadata = &mut pod.metadata;
    let name = metadata.name.clone().filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| ManifestError::Invalid("metadata.name is required".to_owned()))?;
    metadata.name = Some(format!("{name}-{}", node_name.to_lowercase()));
    metadata
        .namespace
        .get_or_insert_with(|| "default".to_owned());
    metadata.uid = Some(
        metadata
            .uid
            .clone()
            .filter(|uid| !uid.is_empty())
            .unwrap_or_else(|| hash.clone()),
    );
    metadata.generation = Some(1);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SOURCE.to_owned(), "file".to_owned());
    annotations.insert(CONFIG_HASH.to_owned(), hash);
    annotations.insert(CONFIG_SEEN.to_owned(), now.to_nanos_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    // A static pod stays whatever happens to the node.
    let everything = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    spec.tolerations.get_or_insert_default().push(everything);
    Pods::default(&mut pod);
    let errors = Pods::validate(&pod);
    if let Some(first) = errors.into_iter().next() {
        return Err(ManifestError::Invalid(first.to_string()));
    }
    pod.status = None;
    let bytes = apimachinery::to_json(&pod).map_err(|error| syntax(&error))?;
    StoredObject::new(bytes.into(), 0).map_err(|error| syntax(&error))
}

/// A pod without the API cannot use objects of the API.
fn check_references(pod: &Pod) -> Result<(), ManifestError> {
    let refuse = |what: &str| {
        Err(ManifestError::Invalid(format!(
            "static pods may not reference {what}"
        )))
    };
    let spec = spec(pod);
    if spec
        .service_account_name
        .as_deref()
        .is_some_and(|name| !name.is_empty())
    {
        return refuse("serviceaccounts");
    }
    for container in containers(pod).iter().chain(init_containers(pod)) {
        match crate::container::env::references(container).first() {
            Some(crate::container::env::Reference::ConfigMap(_)) => return refuse("configmaps"),
            Some(crate::container::env::Reference::Secret(_)) => return refuse("secrets"),
            None => {}
        }
    }
    for volume in spec.volumes.iter().flatten() {
        if volume.config_map.is_some() {
            return refuse("configmaps");
        }
        if volume.secret.is_some() {
            return refuse("secrets");
        }
        if volume.persistent_volume_claim.is_some() {
            return refuse("persistentvolumeclaims");
        }
    }
    Ok(())
}

/// 128 bits (FNV-1a) over content, path and node: it names, it does not protect.
fn hash(bytes: &[u8], path: &Path, node_name: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let path = path.to_string_lossy();
    let all = bytes
        .iter()
        .copied()
        .chain([0])
        .chain(path.bytes())
        .chain([0])
        .chain(node_name.bytes());
    let hash = all.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<Pod, ManifestError> {
        let object = parse(
            text.as_bytes(),
            Path::new("/m/a.yaml"),
            "node",
            Timestamp::UNIX_EPOCH,
        )?;
        Ok(object.decode().unwrap())
    }

    #[test]
    fn a_static_pod_is_named_after_its_node_and_its_uid_follows_its_content() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";
        let pod = made(text).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert!(crate::pods::facts::is_static(&pod));
        assert_eq!(spec(&pod).restart_policy.as_deref(), Some("Always"));
        assert_ne!(
            made(&text.replace("image: i", "image: j"))
                .unwrap()
                .metadata
                .uid,
            pod.metadata.uid
        );
    }

    #[test]
    fn a_static_pod_refers_to_nothing_in_the_api() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i, envFrom: [{secretRef: {name: s}}]}]}\n";
        assert_eq!(
            made(text).unwrap_err().to_string(),
            "static pods may not reference secrets"
        );
    }
}
