//! Packs files as an OCI image archive, byte for byte the same every time.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of one layer in the making.
pub struct Image {
    layer: tar::Builder<Vec<u8>>,
    config: Value,
    architecture: &'static str,
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

impl Image {
    /// An image with nothing in it.
    pub fn new() -> Self {
        Self {
            layer: tar::Builder::new(Vec::new()),
            config: json!({"WorkingDir": "/"}),
            architecture: own_architecture(),
        }
    }

    /// An image whose only program is the static `binary`, which is also its entrypoint.
    pub fn of_binary(binary: &Path) -> io::Result<Self> {
        let name = binary.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("the binary has no name"))?;
        let program = std::fs::read(binary)?;
        let mut image = Self::new().file(name, &program, 0o755)?.file(
            "etc/passwd",
            b"root:x:0:0:root:/:/none\nnobody:x:65534:65534:nobody:/:/none\n",
            0o644,
        )?;
        image.architecture = architecture_of(&program);
        Ok(image
            .set("Entrypoint", json!([format!("/{name}")]))
            .set("Env", json!(["PATH=/"])))
    }

    /// Adds a file; `path` has no leading slash.
    pub fn file(mut self, path: &str, bytes: &[u8], mode: u32) -> io::Result<Self> {
        append(&mut self.layer, path, bytes, mode)?;
        Ok(self)
    }

    /// Adds an empty directory.
    pub fn directory(mut self, path: &str, mode: u32) -> io::Result<Self> {
        let mut header = header(0, mode);
        header.set_entry_type(tar::EntryType::Directory);
        self.layer.append_data(&mut header, path, io::empty())?;
        Ok(self)
    }

    /// Adds a symbolic link.
    pub fn symlink(mut self, path: &str, target: &str) -> io::Result<Self> {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        self.layer.append_link(&mut header, path, target)?;
        Ok(self)
    }

    /// Sets a field of the image's configuration by its OCI name: `Entrypoint`, `Cmd`, `Env`, `User` …
    #[must_use]
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// Writes the archive; the image in it is called `reference`.
    pub fn write(self, reference: &str, archive: &Path) -> io::Result<()> {
        let layer = self.layer.into_inner()?;
        let config = serde_json::to_vec(&json!({
            "architecture": self.architecture, "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
            "history": [{"created_by": "combo testkit"}],
        }))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config), "layers": [descriptor(LAYER, &layer)],
        }))?;
        let mut index = descriptor(MANIFEST, &manifest);
        index["annotations"] = json!({"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference});
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [index]}))?;

        let mut tar = tar::Builder::new(File::create(archive)?);
        append(
            &mut tar,
            "oci-layout",
            br#"{"imageLayoutVersion":"1.0.0"}"#,
            0o644,
        )?;
        append(&mut tar, "index.json", &index, 0o644)?;
        for blob in [&config, &manifest, &layer] {
            append(
                &mut tar,
                &format!("blobs/{}", sha256(blob).replace(':', "/")),
                blob,
                0o644,
            )?;
        }
        tar.into_inner()?.flush()
    }
}

/// A program of another kind is taken for one of this machine.
fn architecture_of(program: &[u8]) -> &'static str {
    match program.get(18..20) {
        Some([62, 0]) => "amd64",
        Some([183, 0]) => "arm64",
        _ => own_architecture(),
    }
}

fn own_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

fn header(size_bytes: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size_bytes);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64, mode), path, bytes)
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}
