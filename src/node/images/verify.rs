//! Looks whether content on disk is still what its names say.

use std::io::{self, Read};

use crate::digest::{Digest, HashingReader};
use crate::error::Result;
use crate::layout::{self, LockMode};
use crate::store::ImageStore;

impl ImageStore {
    /// What is wrong with an image: nothing, if every byte of it is as it came and its layers are unpacked.
    pub fn verify(&self, name: &str) -> Result<Vec<String>> {
        let _content = layout::lock(&self.layout.content_lock(), LockMode::Shared)?;
        let (id, image) = self.find(name)?;
        let mut wrong = Vec::new();
        for digest in image.blobs(&id) {
            if let Some(why) = self.fault(digest)? {
                wrong.push(format!("{digest}: {why}"));
            }
        }
        for layer in &image.layers {
            if self.layer_info(&layer.chain_id)?.is_none() {
                wrong.push(format!("layer {} is not unpacked", layer.diff_id));
            }
        }
        Ok(wrong)
    }

    fn fault(&self, digest: &Digest) -> Result<Option<String>> {
        if !self.layout.has_blob(digest) {
            return Ok(Some("it is missing".to_owned()));
        }
        let mut content = HashingReader::new(self.layout.open_blob(digest)?);
        if let Err(error) = io::copy(&mut content.by_ref(), &mut io::sink()) {
            return Ok(Some(format!("it cannot be read: {error}")));
        }
        let found = content.finish();
        Ok((found != *digest).then(|| format!("its content has digest {found}")))
    }
}
