//! Archives for the tests, honest and hostile ones.

use std::collections::BTreeMap;
use std::io::Write;

use crate::{Digest, ImageStore, Platform, UnpackLimits};

/// One tar entry in the making.
pub(crate) struct Member {
    path: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    mode: u32,
    owner: u64,
    device: (u32, u32),
    content: Vec<u8>,
    claimed_size: Option<u64>,
    pax: Vec<(String, Vec<u8>)>,
}

pub(crate) fn member(path: &str, kind: u8) -> Member {
    Member {
        path: path.into(),
        kind,
        link: Vec::new(),
        mode: 0o644,
        owner: 0,
        device: (0, 0),
        content: Vec::new(),
        claimed_size: None,
        pax: Vec::new(),
    }
}

pub(crate) fn file(path: &str, content: &str) -> Member {
    Member {
        content: content.into(),
        ..member(path, b'0')
    }
}

pub(crate) fn directory(path: &str, mode: u32) -> Member {
    Member {
        mode,
        ..member(path, b'5')
    }
}

pub(crate) fn symlink(path: &str, target: &str) -> Member {
    Member {
        link: target.into(),
        ..member(path, b'2')
    }
}

pub(crate) fn hard_link(path: &str, target: &str) -> Member {
    Member {
        link: target.into(),
        ..member(path, b'1')
    }
}

pub(crate) fn device(path: &str, kind: u8, device: (u32, u32)) -> Member {
    Member {
        device,
        ..member(path, kind)
    }
}

impl Member {
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn content(self, content: Vec<u8>) -> Self {
        Self { content, ..self }
    }

    pub(crate) fn owner(self, owner: u64) -> Self {
        Self { owner, ..self }
    }

    pub(crate) fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.to_owned(), value.to_vec()));
        self
    }

    pub(crate) fn claiming(self, size: u64) -> Self {
        Self {
            claimed_size: Some(size),
            ..self
        }
    }

    fn write(&self, tar: &mut Vec<u8>) {
        if !self.pax.is_empty() {
            let records: Vec<u8> = self
                .pax
                .iter()
                .flat_map(|(key, value)| pax_record(key, value))
                .collect();
            header(
                b"pax",
                b'x',
                &Member {
                    content: records.clone(),
                    ..member("pax", b'x')
                },
                tar,
            );
            padded(&records, tar);
        }
        if self.path.len() > 100 {
            header(
                b"././@LongLink",
                b'L',
                &Member {
                    content: self.path.clone(),
                    ..member("", b'L')
                },
                tar,
            );
            padded(&self.path, tar);
        }
        header(&self.path[..self.path.len().min(100)], self.kind, self, tar);
        padded(&self.content, tar);
    }
}

fn header(path: &[u8], kind: u8, member: &Member, tar: &mut Vec<u8>) {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkname[..member.link.len()].copy_from_slice(&member.link);
    header.set_mode(member.mode);
    header.set_uid(member.owner);
    header.set_gid(member.owner);
    header.set_mtime(1_700_000_000);
    header.set_device_major(member.device.0).unwrap();
    header.set_device_minor(member.device.1).unwrap();
    header.set_size(member.claimed_size.unwrap_or(member.content.len() as u64));
    header.as_old_mut().linkflag[0] = kind;
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
}

fn padded(content: &[u8], tar: &mut Vec<u8>) {
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..1_000_000_000)
        .find(|length: &usize| length.to_string().len() + rest == *length)
        .unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub(crate) fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut tar = Vec::new();
    members.iter().for_each(|member| member.write(&mut tar));
    tar.resize(tar.len() + 1024, 0);
    tar
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn config_of(layers: &[Vec<u8>], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| Digest::of(layer).to_string())
        .collect();
    serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=1"], "ExposedPorts": null, "Volumes": {"/data": {}}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

/// An OCI image under construction: its blobs and its manifest's descriptor.
pub(crate) struct OciImage {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) manifest: Digest,
    descriptor: serde_json::Value,
}

pub(crate) fn oci_image(
    layers: &[Vec<u8>],
    architecture: &str,
    compress: fn(&[u8]) -> Vec<u8>,
) -> OciImage {
    let mut blobs = BTreeMap::new();
    let mut put = |content: Vec<u8>, media_type: &str| {
        let digest = Digest::of(&content);
        let descriptor = serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest.as_str(), "size": content.len(),
        });
        blobs.insert(digest.clone(), content);
        (digest, descriptor)
    };
    let config = put(config_of(layers, architecture), "config.v1+json").1;
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| put(compress(layer), "layer.v1.tar").1)
        .collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
    let (manifest, mut descriptor) = put(manifest.to_string().into_bytes(), "manifest.v1+json");
    descriptor["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
    OciImage {
        blobs,
        manifest,
        descriptor,
    }
}

pub(crate) fn oci_archive(images: &[(&str, &OciImage)]) -> Vec<u8> {
    let mut members = vec![file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)];
    let mut manifests = Vec::new();
    for (name, image) in images {
        let mut descriptor = image.descriptor.clone();
        descriptor["annotations"] = serde_json::json!({"io.containerd.image.name": name});
        manifests.push(descriptor);
        for (digest, content) in &image.blobs {
            members.push(Member {
                content: content.clone(),
                ..file(&format!("blobs/sha256/{}", digest.hex()), "")
            });
        }
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
    members.push(file("index.json", &index.to_string()));
    tar_of(&members)
}

pub(crate) fn docker_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let config = config_of(layers, "amd64");
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let mut members = vec![Member {
        content: config,
        ..file(&config_name, "")
    }];
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        members.push(Member {
            content: layer.clone(),
            ..file(&format!("{number}/original.tar"), "")
        });
        members.push(symlink(
            &format!("{number}/layer.tar"),
            &format!("../{number}/original.tar"),
        ));
        names.push(format!("{number}/layer.tar"));
    }
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
    members.push(file("manifest.json", &manifest.to_string()));
    tar_of(&members)
}

pub(crate) fn amd64() -> Platform {
    Platform {
        architecture: String::from("amd64"),
        variant: String::new(),
    }
}

pub(crate) fn store() -> (tempfile::TempDir, ImageStore) {
    let directory = tempfile::tempdir().unwrap();
    let limits = UnpackLimits {
        bytes_max: 16 << 20,
        entries_max: 1000,
    };
    let store = ImageStore::open_for(directory.path(), amd64(), limits).unwrap();
    (directory, store)
}
