//! Writes images to an archive that this and every other runtime imports: an OCI layout that is a docker-archive too.

use std::collections::BTreeSet;
use std::io::Write;

use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

use crate::archive::{NAME_ANNOTATION, REF_NAME_ANNOTATION};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::ImageRecord;
use crate::layout::{self, LockMode};
use crate::manifest::{self, DOCUMENT_BYTES_MAX, Document};
use crate::store::ImageStore;

const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const FILE_MODE: u32 = 0o644;

impl ImageStore {
    /// Writes these images with their content as it came; the same images give the same bytes.
    pub fn export(&self, names: &[String], to: impl Write) -> Result<()> {
        // What is being written is not swept away meanwhile.
        let _content = layout::lock(&self.layout.content_lock(), LockMode::Shared)?;
        let mut images = Vec::new();
        for name in names {
            let (id, image) = self.find(name)?;
            if !images.iter().any(|(known, _)| *known == id) {
                images.push((id, image));
            }
        }
        let mut index = Vec::new();
        let mut docker = Vec::new();
        for (id, image) in &images {
            index.extend(self.descriptors(id, image)?);
            docker.push(docker_entry(id, image));
        }
        let index = json!({"schemaVersion": 2,
            "mediaType": MediaType::ImageIndex.to_string(), "manifests": index});
        let mut archive = Archive(tar::Builder::new(to));
        archive.text("oci-layout", OCI_LAYOUT)?;
        archive.text("index.json", &index.to_string())?;
        archive.text("manifest.json", &Value::from(docker).to_string())?;
        let blobs: BTreeSet<&Digest> = images
            .iter()
            .flat_map(|(id, image)| image.blobs(id))
            .collect();
        for digest in blobs {
            let path = self.layout.blob(digest);
            let size_bytes = std::fs::metadata(&path)
                .map_err(Error::io("read", &path))?
                .len();
            let content = self.layout.open_blob(digest)?;
            archive.member(&blob_name(digest), size_bytes, content)?;
        }
        archive.0.finish().map_err(written("the end"))
    }

    /// One entry of the archive's index for each name of an image, or one without a name.
    fn descriptors(&self, id: &Digest, image: &ImageRecord) -> Result<Vec<Value>> {
        let content = self
            .layout
            .read_document(&image.manifest, DOCUMENT_BYTES_MAX)?;
        let what = image.manifest.to_string();
        let Document::Manifest(document) = manifest::parse_document(&what, &content)? else {
            return Err(Error::invalid(what, "is no manifest"));
        };
        let media_type = document.media_type().clone();
        let config = self.layout.read_document(id, DOCUMENT_BYTES_MAX)?;
        let config: Value = serde_json::from_slice(&config).map_err(|source| Error::Json {
            what: id.to_string(),
            source,
        })?;
        let mut platform = json!({});
        for field in ["architecture", "os", "variant"] {
            if let Some(value) = config.get(field) {
                platform[field] = value.clone();
            }
        }
        let digest: oci_spec::image::Digest = image
            .manifest
            .as_str()
            .parse()
            .map_err(|error| Error::invalid(&what, format!("{error}")))?;
        let descriptor = Descriptor::new(
            media_type.unwrap_or(MediaType::ImageManifest),
            content.len() as u64,
            digest,
        );
        let mut plain = serde_json::to_value(&descriptor).map_err(|source| Error::Json {
            what: what.clone(),
            source,
        })?;
        plain["platform"] = platform;
        if image.tags.is_empty() {
            return Ok(vec![plain]);
        }
        let named = image.tags.iter().map(|tag| {
            let mut named = plain.clone();
            let name = tag.to_string();
            let short = name.rsplit(':').next().unwrap_or_default();
            named["annotations"] = json!({NAME_ANNOTATION: name, REF_NAME_ANNOTATION: short});
            named
        });
        Ok(named.collect())
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn docker_entry(id: &Digest, image: &ImageRecord) -> Value {
    let tags: Vec<String> = image.tags.iter().map(ToString::to_string).collect();
    let layers: Vec<String> = image
        .layers
        .iter()
        .map(|layer| blob_name(&layer.blob))
        .collect();
    json!({"Config": blob_name(id), "RepoTags": tags, "Layers": layers})
}

struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Archive<W> {
    fn text(&mut self, name: &str, text: &str) -> Result<()> {
        self.member(name, text.len() as u64, text.as_bytes())
    }

    fn member(&mut self, name: &str, size_bytes: u64, content: impl std::io::Read) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size_bytes);
        header.set_mode(FILE_MODE);
        // A time would make two archives of the same images differ.
        header.set_mtime(0);
        self.0
            .append_data(&mut header, name, content)
            .map_err(written(name))
    }
}

fn written(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Invalid {
        what: format!("write {what} to the archive"),
        reason: source.to_string(),
    }
}
