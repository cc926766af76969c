//! Packs one static binary as an OCI image archive.

use std::path::Path;

use anyhow::Context;
use testkit::Image;

/// Writes `archive` with an image `reference` whose only program is `binary`, which is also its entrypoint.
pub(crate) fn pack(binary: &Path, reference: &str, archive: &Path) -> anyhow::Result<()> {
    let image = Image::of_binary(binary).with_context(|| format!("read {}", binary.display()))?;
    image
        .write(reference, archive)
        .with_context(|| format!("write {}", archive.display()))
}
