//! What other nodes are given: manifests by the names that they have here, and the content that an image of the index needs.

use async_trait::async_trait;
use cri::{SharedContent, SharedImages, SharedManifest};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::DOCUMENT_BYTES_MAX;
use crate::pull::blocking;
use crate::reference::Reference;
use crate::service::{LocalImageService, in_cri_words};
use crate::store::ImageStore;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl ImageStore {
    fn shared_manifest(&self, image: &str) -> Result<Option<SharedManifest>> {
        let reference = Reference::parse(image)?;
        let index = self.index()?;
        let digest = match reference.digest() {
            // A digest names one document, whatever else is known of the image.
            Some(digest) => index
                .images
                .values()
                .find(|image| image.manifest == *digest)
                .map(|image| image.manifest.clone()),
            None => index.find(image).map(|(_, image)| image.manifest.clone()),
        };
        let Some(digest) = digest else {
            return Ok(None);
        };
        let document = self.layout.read_document(&digest, DOCUMENT_BYTES_MAX)?;
        Ok(Some(SharedManifest {
            digest: digest.to_string(),
            media_type: media_type(&document),
            document,
        }))
    }

    /// What is on its way to become an image is nobody's yet.
    fn shared_content(&self, digest: &str) -> Result<Option<SharedContent>> {
        let Ok(digest) = Digest::parse(digest) else {
            return Ok(None);
        };
        if !self.index()?.blobs().contains(&digest) || !self.layout.has_blob(&digest) {
            return Ok(None);
        }
        let file = self.layout.open_blob(&digest)?;
        let path = self.layout.blob(&digest);
        let size_bytes = file.metadata().map_err(Error::io("read", &path))?.len();
        Ok(Some(SharedContent { size_bytes, file }))
    }
}

/// A manifest says itself what it is, or is one of OCI's.
fn media_type(document: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let typed: Option<Typed> = serde_json::from_slice(document).ok();
    let told = typed.and_then(|typed| typed.media_type);
    told.unwrap_or_else(|| MANIFEST.to_owned())
}

#[async_trait]
impl SharedImages for LocalImageService {
    async fn manifest(&self, image: &str) -> cri::Result<Option<SharedManifest>> {
        let (store, image) = (self.store().clone(), image.to_owned());
        let found = blocking(move || store.shared_manifest(&image)).await;
        found.map_err(in_cri_words)
    }

    async fn content(&self, digest: &str) -> cri::Result<Option<SharedContent>> {
        let (store, digest) = (self.store().clone(), digest.to_owned());
        let found = blocking(move || store.shared_content(&digest)).await;
        found.map_err(in_cri_words)
    }
}
