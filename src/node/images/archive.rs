//! Imports docker-archives and OCI layouts from one pass over a tar stream: content goes to disk as it comes, and what it means is decided at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::arrivals::Arrivals;
use crate::compression;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::ImageRecord;
use crate::layout::{self, Layout, LockMode};
use crate::manifest::{self, DOCUMENT_BYTES_MAX, Document};
use crate::platform;
use crate::reference::Reference;
use crate::store::ImageStore;
use crate::tar_reader::{Entry, EntryKind, TarError, TarReader};

/// Files in one archive: an air-gap bundle has a few hundred.
const MEMBERS_MAX: usize = 100_000;
const MEMBER_BYTES_MAX: u64 = 64 << 30;
/// Where an OCI layout has its content.
const BLOBS: &str = "blobs/sha256";
/// Indexes within indexes, as `docker buildx` writes them.
const INDEX_DEPTH_MAX: usize = 4;
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";
pub(crate) const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedImage {
    pub id: cri::ImageId,
    /// Normalised `name:tag` references; empty when the archive gives none.
    pub tags: Vec<String>,
}

impl ImageStore {
    /// Imports every image of an archive (docker-archive or OCI layout; plain, gzip or zstd) that fits this node, unpacks and pins them.
    ///
    /// A directory is read as an OCI layout.
    pub fn import(&self, archive: &Path) -> Result<Vec<ImportedImage>> {
        self.import_for(archive, &Arrivals::default())
    }

    /// The same; images that somebody waits for come first.
    pub(crate) fn import_for(
        &self,
        archive: &Path,
        arrivals: &Arrivals,
    ) -> Result<Vec<ImportedImage>> {
        let what = archive.display().to_string();
        let file = File::open(archive).map_err(Error::io("open", archive))?;
        let is_folder = file.metadata().is_ok_and(|found| found.is_dir());
        self.import_members(&what, arrivals, || {
            if is_folder {
                Members::store_folder(&what, archive, &self.layout)
            } else {
                Members::store(&what, file, &self.layout)
            }
        })
    }

    /// The same from any stream; `what` names it in errors.
    pub fn import_stream(&self, what: &str, stream: impl Read) -> Result<Vec<ImportedImage>> {
        self.import_members(what, &Arrivals::default(), || {
            Members::store(what, stream, &self.layout)
        })
    }

    fn import_members(
        &self,
        what: &str,
        arrivals: &Arrivals,
        store: impl FnOnce() -> Result<Members>,
    ) -> Result<Vec<ImportedImage>> {
        let lock = layout::lock(&self.layout.content_lock(), LockMode::Shared)?;
        let imported = store().and_then(|members| self.import_locked(what, &members, arrivals));
        drop(lock);
        let swept = self.sweep();
        let imported = imported?;
        swept?;
        Ok(imported)
    }

    fn import_locked(
        &self,
        what: &str,
        members: &Members,
        arrivals: &Arrivals,
    ) -> Result<Vec<ImportedImage>> {
        let mut images = self.interpret(what, members)?;
        if images.is_empty() {
            return Err(Error::invalid(what, "holds no image for this node"));
        }
        let mut imported = Vec::new();
        while let Some((id, image)) = take_next(&mut images, arrivals) {
            self.unpack_layers(&image.layers)?;
            imported.push(ImportedImage {
                id: cri::ImageId(id.to_string()),
                tags: image.tags.iter().map(ToString::to_string).collect(),
            });
            self.change_index(|index| index.insert(&id, image))?;
            arrivals.arrived();
        }
        Ok(imported)
    }

    /// An archive may describe its images twice, in `index.json` and in `manifest.json`: names of both count.
    fn interpret(&self, what: &str, members: &Members) -> Result<BTreeMap<Digest, ImageRecord>> {
        let mut images = BTreeMap::new();
        let mut described = false;
        if let Some(content) = members.read("index.json", &self.layout)? {
            let parsed = manifest::parse_document(&format!("{what}: index.json"), &content)?;
            let Document::Index(index) = parsed else {
                return Err(Error::invalid(what, "index.json is not an index"));
            };
            described = true;
            self.interpret_index(what, &index, &mut images)?;
        }
        if let Some(content) = members.read("manifest.json", &self.layout)? {
            let entries: Vec<DockerEntry> =
                serde_json::from_slice(&content).map_err(|source| Error::Json {
                    what: format!("{what}: manifest.json"),
                    source,
                })?;
            described = true;
            for entry in &entries {
                self.interpret_docker(what, entry, members, &mut images)?;
            }
        }
        if !described {
            return Err(Error::invalid(
                what,
                "is neither a docker-archive nor an OCI layout: index.json and manifest.json are missing",
            ));
        }
        Ok(images)
    }

    fn interpret_index(
        &self,
        what: &str,
        index: &ImageIndex,
        images: &mut BTreeMap<Digest, ImageRecord>,
    ) -> Result<()> {
        let mut named = BTreeSet::new();
        for descriptor in platform::select(index, &self.platform) {
            let name = name_of(descriptor);
            // The best fitting manifest came first.
            if name.is_some() && named.contains(&name) {
                continue;
            }
            let Some(manifest) = self.manifest_below(what, descriptor, 0)? else {
                continue;
            };
            let (id, mut image) = self.read_image(what, &manifest)?;
            image.pinned = true;
            if let Some(name) = &name {
                image
                    .repo_digests
                    .insert(name.with_digest(&manifest::digest_of(descriptor)?));
                image.tags.extend(name.tagged());
            }
            named.insert(name);
            merge(images, id, image);
        }
        Ok(())
    }

    /// The manifest for this node below a descriptor; `None` when the archive was made without it.
    fn manifest_below(
        &self,
        what: &str,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<Option<Digest>> {
        let digest = manifest::digest_of(descriptor)?;
        if depth > INDEX_DEPTH_MAX {
            return Err(Error::invalid(
                what,
                "indexes within indexes are nested too deep",
            ));
        }
        if !self.layout.has_blob(&digest) {
            return Ok(None);
        }
        let content = self.layout.read_document(&digest, DOCUMENT_BYTES_MAX)?;
        let index = match manifest::parse_document(&format!("{what}: {digest}"), &content)? {
            Document::Manifest(_) => return Ok(Some(digest)),
            Document::Index(index) => index,
        };
        for inner in platform::select(&index, &self.platform) {
            if let Some(manifest) = self.manifest_below(what, inner, depth + 1)? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    fn interpret_docker(
        &self,
        what: &str,
        entry: &DockerEntry,
        members: &Members,
        images: &mut BTreeMap<Digest, ImageRecord>,
    ) -> Result<()> {
        let (config, config_size) = members.required(what, &entry.config)?;
        let tags: BTreeSet<Reference> = entry
            .repo_tags
            .iter()
            .flatten()
            .map(|tag| Reference::parse(tag))
            .collect::<Result<_>>()?;
        if let Some(known) = images.get_mut(&config) {
            known.tags.extend(tags);
            return Ok(());
        }
        let layers: Vec<(Digest, u64)> = entry
            .layers
            .iter()
            .map(|layer| members.required(what, layer))
            .collect::<Result<_>>()?;
        let manifest = self
            .layout
            .put_blob(&manifest::made_manifest((&config, config_size), &layers))?;
        let (id, image) = self.read_image(what, &manifest)?;
        merge(
            images,
            id,
            ImageRecord {
                pinned: true,
                tags,
                ..image
            },
        );
        Ok(())
    }
}

/// One that somebody waits for, else the first.
fn take_next(
    images: &mut BTreeMap<Digest, ImageRecord>,
    arrivals: &Arrivals,
) -> Option<(Digest, ImageRecord)> {
    let is_wanted = |image: &ImageRecord| {
        arrivals.is_wanted(&image.tags) || arrivals.is_wanted(&image.repo_digests)
    };
    let wanted = images.iter().find(|(_, image)| is_wanted(image));
    let next = wanted.or_else(|| images.iter().next());
    let id = next.map(|(id, _)| id.clone())?;
    images.remove_entry(&id)
}

fn merge(images: &mut BTreeMap<Digest, ImageRecord>, id: Digest, image: ImageRecord) {
    match images.get_mut(&id) {
        None => {
            images.insert(id, image);
        }
        Some(known) => {
            known.tags.extend(image.tags);
            known.repo_digests.extend(image.repo_digests);
        }
    }
}

/// The full name, if the annotations give one: `ref.name` is often a bare tag, which names nothing.
pub(crate) fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = descriptor.annotations().as_ref()?;
    let full = annotations.get(NAME_ANNOTATION);
    let named = full.or_else(|| {
        annotations
            .get(REF_NAME_ANNOTATION)
            .filter(|name| name.contains(['/', ':']))
    })?;
    Reference::parse(named).ok()
}

/// One image in a docker-archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerEntry {
    config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The members of an archive, stored as blobs, by their names.
struct Members {
    files: BTreeMap<String, (Digest, u64)>,
    /// Old docker-archives link a layer that several images share.
    links: BTreeMap<String, String>,
}

impl Members {
    fn store(what: &str, stream: impl Read, layout: &Layout) -> Result<Self> {
        let failed = |source: io::Error| Error::invalid(what, format!("cannot be read: {source}"));
        let plain = compression::decompressed(stream).map_err(failed)?;
        let mut tar = TarReader::new(plain);
        let mut members = Self {
            files: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        loop {
            let entry = match tar.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(members),
                Err(TarError::Io(source)) => return Err(failed(source)),
                Err(error @ TarError::Refused { .. }) => {
                    return Err(Error::invalid(what, error.to_string()));
                }
            };
            if members.files.len() + members.links.len() >= MEMBERS_MAX {
                return Err(Error::invalid(
                    what,
                    format!("more than {MEMBERS_MAX} files"),
                ));
            }
            members.add(what, &entry, &mut tar, layout)?;
        }
    }

    /// The files of an OCI layout that lies in a directory. Links are not followed.
    fn store_folder(what: &str, folder: &Path, layout: &Layout) -> Result<Self> {
        let mut members = Self {
            files: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        for name in ["oci-layout", "index.json"] {
            members.add_file(what, name, folder, layout)?;
        }
        let blobs = folder.join(BLOBS);
        let entries = fs::read_dir(&blobs).map_err(Error::io("list", &blobs))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            // What is still being copied here has such names.
            .filter(|name| !name.starts_with('.'))
            .collect();
        if names.len() > MEMBERS_MAX {
            let reason = format!("more than {MEMBERS_MAX} files");
            return Err(Error::invalid(what, reason));
        }
        names.sort();
        for name in names {
            members.add_file(what, &format!("{BLOBS}/{name}"), folder, layout)?;
        }
        Ok(members)
    }

    fn add_file(&mut self, what: &str, name: &str, folder: &Path, layout: &Layout) -> Result<()> {
        let path = folder.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        let mut file = File::from(opened.map_err(Error::errno("open", &path))?);
        let metadata = file.metadata().map_err(Error::io("read", &path))?;
        if !metadata.is_file() {
            return Err(Error::invalid(what, format!("{name} is not a file")));
        }
        let stored = store_member(what, name, &mut file, layout)?;
        self.files.insert(name.to_owned(), stored);
        Ok(())
    }

    fn add(
        &mut self,
        what: &str,
        entry: &Entry,
        content: &mut impl Read,
        layout: &Layout,
    ) -> Result<()> {
        let name = normal_name(&entry.display());
        match entry.kind {
            EntryKind::Regular => {
                if entry.size_bytes > MEMBER_BYTES_MAX {
                    let size_bytes = entry.size_bytes;
                    return Err(Error::TooLarge {
                        what: format!("{what}: {name}"),
                        size_bytes,
                        size_bytes_max: MEMBER_BYTES_MAX,
                    });
                }
                let stored = store_member(what, &name, content, layout)?;
                self.files.insert(name, stored);
            }
            EntryKind::Symlink => {
                let target = String::from_utf8_lossy(&entry.link).into_owned();
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                self.links
                    .insert(name.clone(), normal_name(&format!("{folder}/{target}")));
            }
            EntryKind::HardLink => {
                self.links
                    .insert(name, normal_name(&String::from_utf8_lossy(&entry.link)));
            }
            EntryKind::Directory
            | EntryKind::CharDevice
            | EntryKind::BlockDevice
            | EntryKind::Fifo => {}
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&(Digest, u64)> {
        let name = normal_name(name);
        self.files.get(&name).or_else(|| {
            self.links
                .get(&name)
                .and_then(|target| self.files.get(target))
        })
    }

    fn required(&self, what: &str, name: &str) -> Result<(Digest, u64)> {
        self.get(name)
            .cloned()
            .ok_or_else(|| Error::invalid(what, format!("{name} is missing")))
    }

    fn read(&self, name: &str, layout: &Layout) -> Result<Option<Vec<u8>>> {
        self.get(name)
            .map(|(digest, _)| layout.read_document(digest, DOCUMENT_BYTES_MAX))
            .transpose()
    }
}

/// A file below `blobs/sha256` must be what its name says.
fn store_member(
    what: &str,
    name: &str,
    content: &mut impl Read,
    layout: &Layout,
) -> Result<(Digest, u64)> {
    let mut writer = layout.blob_writer()?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::invalid(
                    what,
                    format!("{name} cannot be read: {error}"),
                ));
            }
        };
        io::Write::write_all(&mut writer, &buffer[..read])
            .map_err(|source| writer.failed(source))?;
    }
    let expected = name
        .strip_prefix(BLOBS)
        .and_then(|name| name.strip_prefix('/'))
        .map(Digest::from_hex)
        .transpose()?;
    let what = format!("{what}: {name}");
    writer.commit(expected.as_ref().map(|digest| (what.as_str(), digest)))
}

/// The name with `.` and `..` resolved, relative to the archive's root.
fn normal_name(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
