//! What a node remembers, so that its pods run when no server answers.

use anyhow::Context as _;
use bootstrap::DataDir;
use env::Rng;
use informer::Memory;
use pki::KeyPair;
use sealed_files::{Records, SealedFolder};
use std::sync::Arc;

const FOLDER: &str = "memory";

/// Opens the node's memory, sealed under its key: one per data folder and process. Must be called within a runtime.
pub(crate) fn open(
    data_dir: &DataDir,
    node_name: &str,
    key: &KeyPair,
    rng: Arc<dyn Rng>,
) -> anyhow::Result<Memory> {
    let path = data_dir.agent().join(FOLDER);
    let folder = SealedFolder::open(&path, key.to_pem().as_bytes(), rng)?;
    let records = Records::open(folder, Box::new(|| {}))
        .with_context(|| format!("read what the node remembers in {}", path.display()))?;
    Ok(Memory::new(records, kubelet::kept_on_a_node(node_name)))
}
