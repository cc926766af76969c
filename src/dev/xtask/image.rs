//! Packs one static binary as an OCI image archive, byte for byte the same every time.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes `archive` with an image `reference` whose only file is `binary`, which is also its entrypoint.
pub(crate) fn pack(binary: &Path, reference: &str, archive: &Path) -> anyhow::Result<()> {
    let name = binary.file_name().and_then(|name| name.to_str()).context("the binary has no name")?;
    let bytes = std::fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
    let layer = layer(name, &bytes)?;
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": [format!("/{name}")], "Env": ["PATH=/"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
        "history": [{"created_by": "cargo xtask image"}],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config), "layers": [descriptor(LAYER, &layer)],
    }))?;
    let mut index = descriptor(MANIFEST, &manifest);
    index["annotations"] = json!({"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [index]}))?;

    let mut tar = tar::Builder::new(File::create(archive).with_context(|| format!("create {}", archive.display()))?);
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut tar, "index.json", &index, 0o644)?;
    for blob in [&config, &manifest, &layer] {
        append(&mut tar, &format!("blobs/{}", sha256(blob).replace(':', "/")), blob, 0o644)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn layer(name: &str, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, name, bytes, 0o755)?;
    append(&mut tar, "etc/passwd", b"root:x:0:0:root:/:/none\nnobody:x:65534:65534:nobody:/:/none\n", 0o644)?;
    Ok(tar.into_inner()?)
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}
