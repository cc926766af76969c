//! The list of images: plain data, and the rules by which names move between images.

use std::collections::{BTreeMap, BTreeSet};

use cri::ImageConfig;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, is_hex};
use crate::reference::Reference;

/// Raised when an older release could not read the file any more.
pub(crate) const INDEX_VERSION: u32 = 1;

/// All images of the store, by the digest of their configuration, which is an image's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) version: u32,
    pub(crate) images: BTreeMap<Digest, ImageRecord>,
    /// Archives of the air-gap directory that were imported, by file name.
    #[serde(default)]
    pub(crate) archives: BTreeMap<String, ArchiveRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) manifest: Digest,
    pub(crate) layers: Vec<LayerRecord>,
    /// `name:tag` references.
    pub(crate) tags: BTreeSet<Reference>,
    /// `name@sha256:…` references.
    pub(crate) repo_digests: BTreeSet<Reference>,
    /// Never garbage: the only copy may be the one that was carried here.
    pub(crate) pinned: bool,
    /// Configuration and layers as they came, compressed.
    pub(crate) size_bytes: u64,
    pub(crate) config: ImageConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) blob: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) chain_id: Digest,
}

/// How an imported archive looked, so that an unchanged one is not read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchiveRecord {
    pub(crate) size_bytes: u64,
    pub(crate) mtime_nanoseconds: i128,
    pub(crate) images: BTreeSet<Digest>,
}

impl ImageRecord {
    /// Every blob that the image of this id needs.
    pub(crate) fn blobs<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a Digest> {
        [id, &self.manifest]
            .into_iter()
            .chain(self.layers.iter().map(|layer| &layer.blob))
    }
}

impl Index {
    /// Adds an image or what is new about a known one; its tags leave the images that had them.
    pub(crate) fn insert(&mut self, id: &Digest, record: ImageRecord) {
        for (other, image) in &mut self.images {
            if other != id {
                image.tags.retain(|tag| !record.tags.contains(tag));
            }
        }
        match self.images.get_mut(id) {
            None => {
                self.images.insert(id.clone(), record);
            }
            Some(known) => {
                let pinned = known.pinned || record.pinned;
                let tags = known.tags.union(&record.tags).cloned().collect();
                let repo_digests = known
                    .repo_digests
                    .union(&record.repo_digests)
                    .cloned()
                    .collect();
                *known = ImageRecord {
                    tags,
                    repo_digests,
                    pinned,
                    ..record
                };
            }
        }
    }

    /// The image that an id, a tag or a repo digest names.
    pub(crate) fn find(&self, name: &str) -> Option<(&Digest, &ImageRecord)> {
        let id = if is_hex(name) {
            Digest::from_hex(name)
        } else {
            Digest::parse(name)
        };
        if let Ok(id) = id {
            return self.images.get_key_value(&id);
        }
        let reference = Reference::parse(name).ok()?;
        match reference.digest() {
            Some(digest) => {
                let wanted = reference.with_digest(digest);
                self.images
                    .iter()
                    .find(|(_, image)| image.repo_digests.contains(&wanted))
            }
            None => self
                .images
                .iter()
                .find(|(_, image)| image.tags.contains(&reference)),
        }
    }

    pub(crate) fn remove(&mut self, id: &Digest) -> Option<ImageRecord> {
        for archive in self.archives.values_mut() {
            archive.images.remove(id);
        }
        self.images.remove(id)
    }

    /// Every blob that an image needs.
    pub(crate) fn blobs(&self) -> BTreeSet<&Digest> {
        self.images
            .iter()
            .flat_map(|(id, image)| image.blobs(id))
            .collect()
    }

    /// Every unpacked layer that an image needs.
    pub(crate) fn chain_ids(&self) -> BTreeSet<&Digest> {
        self.images
            .values()
            .flat_map(|image| image.layers.iter().map(|layer| &layer.chain_id))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tags: &[&str]) -> ImageRecord {
        ImageRecord {
            manifest: Digest::of(b"manifest"),
            layers: Vec::new(),
            tags: tags
                .iter()
                .map(|tag| Reference::parse(tag).unwrap())
                .collect(),
            repo_digests: BTreeSet::new(),
            pinned: false,
            size_bytes: 1,
            config: ImageConfig::default(),
        }
    }

    #[test]
    fn a_tag_names_one_image_only() {
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let mut index = Index::default();
        index.insert(&first, record(&["nginx", "nginx:1"]));
        index.insert(&second, record(&["nginx"]));
        assert_eq!(
            index.find("docker.io/library/nginx:latest").unwrap().0,
            &second
        );
        assert_eq!(index.find("nginx:1").unwrap().0, &first);
        assert_eq!(index.find(first.hex()).unwrap().0, &first);
        assert!(index.find("nginx:2").is_none());
    }

    #[test]
    fn importing_again_keeps_names_and_pin() {
        let id = Digest::of(b"1");
        let mut index = Index::default();
        index.insert(
            &id,
            ImageRecord {
                pinned: true,
                ..record(&["a:1"])
            },
        );
        index.insert(&id, record(&["a:2"]));
        let image = &index.images[&id];
        assert!(image.pinned);
        assert_eq!(image.tags.len(), 2);
    }
}
