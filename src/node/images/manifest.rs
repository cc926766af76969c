//! What manifests and configurations say, checked as far as it can be without their layers.

use std::collections::BTreeMap;

use cri::ImageConfig;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::value::RawValue;

use crate::digest::{Digest, chain_ids};
use crate::error::{Error, Result};
use crate::index::LayerRecord;
use crate::platform::Platform;

/// A manifest, an index or a configuration; registries refuse larger manifests too.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// As overlayfs: an upper and 499 lower directories.
const LAYERS_MAX: usize = 499;

/// What a descriptor may lead to on the way to an image.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Box<ImageIndex>),
    Manifest(Box<ImageManifest>),
}

/// Tells an index from a manifest by what it holds, because older tools leave the media type out.
pub(crate) fn parse_document(what: &str, content: &[u8]) -> Result<Document> {
    let unreadable = |source| Error::Json {
        what: what.to_owned(),
        source,
    };
    let keys: BTreeMap<String, &RawValue> = serde_json::from_slice(content).map_err(unreadable)?;
    if keys.contains_key("manifests") && keys.contains_key("layers") {
        return Err(Error::invalid(what, "is an index and a manifest at once"));
    }
    if keys
        .get("schemaVersion")
        .is_some_and(|version| version.get() == "1")
    {
        return Err(Error::invalid(
            what,
            "Docker's manifest schema 1 is not supported",
        ));
    }
    if keys.contains_key("manifests") {
        serde_json::from_slice(content)
            .map(Document::Index)
            .map_err(unreadable)
    } else {
        serde_json::from_slice(content)
            .map(Document::Manifest)
            .map_err(unreadable)
    }
}

pub(crate) fn digest_of(descriptor: &Descriptor) -> Result<Digest> {
    Digest::parse(descriptor.digest().as_ref())
}

/// What the configuration says, in the words of CRI, and its layers as the manifest and the configuration describe them.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<LayerRecord>,
    pub(crate) size_bytes: u64,
}

/// Joins a manifest with its configuration.
pub(crate) fn join(
    what: &str,
    manifest: &ImageManifest,
    config: &[u8],
    platform: &Platform,
) -> Result<Parsed> {
    let blobs: Vec<(Digest, u64)> = manifest
        .layers()
        .iter()
        .map(|layer| checked_layer(what, layer))
        .collect::<Result<_>>()?;
    let configuration = parse_configuration(what, config, platform)?;
    let diff_ids: Vec<Digest> = configuration
        .rootfs()
        .diff_ids()
        .iter()
        .map(|diff_id| Digest::parse(diff_id))
        .collect::<Result<_>>()?;
    if diff_ids.len() != blobs.len() {
        let reason = format!(
            "{} layers, but the configuration names {}",
            blobs.len(),
            diff_ids.len()
        );
        return Err(Error::invalid(what, reason));
    }
    if diff_ids.len() > LAYERS_MAX {
        return Err(Error::invalid(
            what,
            format!(
                "{} layers, more than the {LAYERS_MAX} that overlayfs can stack",
                diff_ids.len()
            ),
        ));
    }
    let size_bytes = blobs.iter().map(|(_, size)| size).sum::<u64>() + config.len() as u64;
    let chain = chain_ids(&diff_ids);
    let layers = blobs
        .into_iter()
        .zip(diff_ids)
        .zip(chain)
        .map(|(((blob, _), diff_id), chain_id)| LayerRecord {
            blob,
            diff_id,
            chain_id,
        })
        .collect();
    Ok(Parsed {
        config: in_cri_words(&configuration),
        layers,
        size_bytes,
    })
}

/// The same for a docker-archive, whose layers are known by their content alone: makes the manifest that the archive lacks.
pub(crate) fn made_manifest(config: (&Digest, u64), layers: &[(Digest, u64)]) -> Vec<u8> {
    let descriptor = |media_type: &str, digest: &Digest, size: u64| serde_json::json!({"mediaType": media_type, "digest": digest.as_str(), "size": size});
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, size)| {
            descriptor(
                "application/vnd.docker.image.rootfs.diff.tar",
                digest,
                *size,
            )
        })
        .collect();
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor("application/vnd.docker.container.image.v1+json", config.0, config.1),
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}

fn checked_layer(what: &str, layer: &Descriptor) -> Result<(Digest, u64)> {
    let media_type = layer.media_type().to_string();
    let known = media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.");
    if !known || media_type.ends_with("+encrypted") {
        return Err(Error::invalid(
            what,
            format!("layers of type {media_type} are not supported"),
        ));
    }
    Ok((digest_of(layer)?, layer.size()))
}

fn parse_configuration(
    what: &str,
    config: &[u8],
    platform: &Platform,
) -> Result<ImageConfiguration> {
    let configuration: ImageConfiguration =
        serde_json::from_slice(config).map_err(|source| Error::Json {
            what: format!("configuration of {what}"),
            source,
        })?;
    let (os, architecture) = (
        configuration.os().to_string(),
        configuration.architecture().to_string(),
    );
    if os != "linux" || (!architecture.is_empty() && architecture != platform.architecture) {
        let reason = format!(
            "the image is for {os}/{architecture}, this node is linux/{}",
            platform.architecture
        );
        return Err(Error::invalid(what, reason));
    }
    Ok(configuration)
}

fn in_cri_words(configuration: &ImageConfiguration) -> ImageConfig {
    let Some(config) = configuration.config() else {
        return ImageConfig::default();
    };
    ImageConfig {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        stop_signal: config.stop_signal().clone().unwrap_or_default(),
        labels: config
            .labels()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        volumes: config.volumes().clone().unwrap_or_default(),
    }
}
