//! What a node gives of its images to other nodes.

use std::fs::File;

use async_trait::async_trait;

use crate::Result;

/// Images in the words of the distribution protocol; reading only.
#[async_trait]
pub trait SharedImages: Send + Sync {
    /// The manifest that `registry/repository:tag` or `registry/repository@sha256:…` names; `None` when it is not here.
    async fn manifest(&self, image: &str) -> Result<Option<SharedManifest>>;
    /// Content of an image by its digest; `None` when no image here has it.
    async fn content(&self, digest: &str) -> Result<Option<SharedContent>>;
}

/// A manifest with what clients are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedManifest {
    pub digest: String,
    pub media_type: String,
    pub document: Vec<u8>,
}

/// A configuration or a layer.
#[derive(Debug)]
pub struct SharedContent {
    pub size_bytes: u64,
    pub file: File,
}
