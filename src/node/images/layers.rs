//! Each layer is unpacked once, checked against the digest that its image names, and complete as soon as it has its name.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::compression;
use crate::digest::{Digest, HashingReader};
use crate::error::{Error, Result};
use crate::index::LayerRecord;
use crate::layout;
use crate::store::ImageStore;
use crate::unpack::{UnpackError, Unpacked, Unpacker};

/// What `layer.json` says about an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerInfo {
    pub(crate) diff_id: Digest,
    pub(crate) size_bytes: u64,
    pub(crate) entries: u64,
}

impl ImageStore {
    /// Unpacks those of an image's layers that are not there yet, lowest first. The caller holds the content lock.
    pub(crate) fn unpack_layers(&self, layers: &[LayerRecord]) -> Result<()> {
        (0..layers.len()).try_for_each(|depth| self.unpack_layer(&layers[..=depth]))
    }

    /// Unpacks the last of `chain`; the others are there.
    fn unpack_layer(&self, chain: &[LayerRecord]) -> Result<()> {
        let (layer, below) = chain.split_last().expect("a chain has at least one layer");
        let turn = Arc::clone(
            self.unpacking
                .lock()
                .entry(layer.chain_id.clone())
                .or_default(),
        );
        let done = {
            let _turn = turn.lock();
            self.unpack_layer_now(layer, below)
        };
        self.unpacking.lock().remove(&layer.chain_id);
        done
    }

    fn unpack_layer_now(&self, layer: &LayerRecord, below: &[LayerRecord]) -> Result<()> {
        let target = self.layout.layer(&layer.chain_id);
        if target.is_dir() {
            return Ok(());
        }
        let temporary = self.layout.temporary();
        let made = self.unpack_into(layer, below, &temporary).and_then(|()| {
            match fs::rename(&temporary, &target) {
                // Another process was quicker.
                Err(_) if target.is_dir() => Ok(()),
                renamed => renamed.map_err(Error::io("rename to", &target)),
            }
        });
        layout::remove_tree_if_there(&temporary)?;
        made?;
        layout::sync_directory(&self.layout.layers())
    }

    fn unpack_into(
        &self,
        layer: &LayerRecord,
        below: &[LayerRecord],
        directory: &Path,
    ) -> Result<()> {
        let tree = directory.join("fs");
        fs::create_dir_all(&tree).map_err(Error::io("make directory", &tree))?;
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("set the mode of", &tree))?;
        let root = open_directory(&tree)?;
        let parents: Vec<OwnedFd> = below
            .iter()
            .rev()
            .map(|parent| open_directory(&self.layout.layer(&parent.chain_id).join("fs")))
            .collect::<Result<_>>()?;
        let blob = self.layout.blob(&layer.blob);
        let plain = compression::decompressed(self.layout.open_blob(&layer.blob)?)
            .map_err(Error::io("decompress", &blob))?;
        let mut hashed = HashingReader::new(plain);
        let unpacked = Unpacker::new(root.as_fd(), &parents, self.opaque_mark, self.limits)
            .run(&mut hashed)
            .map_err(|error| in_context(error, layer, &blob, &tree))?;
        let found = hashed.finish();
        if found != layer.diff_id {
            let what = format!("layer {} uncompressed", layer.blob);
            return Err(Error::DigestMismatch {
                what,
                expected: layer.diff_id.clone(),
                found,
            });
        }
        write_info(&directory.join("layer.json"), &layer.diff_id, unpacked)?;
        // One call for all files of the layer instead of one each.
        rustix::fs::syncfs(&root).map_err(Error::errno("sync", &tree))
    }

    pub(crate) fn layer_info(&self, chain_id: &Digest) -> Result<Option<LayerInfo>> {
        layout::read_json(&self.layout.layer(chain_id).join("layer.json"))
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    File::open(path)
        .map(OwnedFd::from)
        .map_err(Error::io("open", path))
}

fn write_info(path: &Path, diff_id: &Digest, unpacked: Unpacked) -> Result<()> {
    let info = LayerInfo {
        diff_id: diff_id.clone(),
        size_bytes: unpacked.size_bytes,
        entries: unpacked.entries,
    };
    layout::write_json(path, &info)
}

fn in_context(error: UnpackError, layer: &LayerRecord, blob: &Path, tree: &Path) -> Error {
    match error {
        UnpackError::Refused { entry, refusal } => Error::Refused {
            diff_id: layer.diff_id.clone(),
            entry,
            refusal,
        },
        UnpackError::Io { entry, source } => Error::Io {
            doing: "unpack",
            path: tree.join(entry.trim_start_matches('/')),
            source,
        },
        UnpackError::Stream(source) => Error::Io {
            doing: "read",
            path: blob.to_path_buf(),
            source,
        },
    }
}
