//! The image store: one directory that several processes may use at a time; every list it gives is what the disk says now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::{INDEX_VERSION, ImageRecord, Index};
use crate::layout::{self, Layout, LockMode};
use crate::manifest::{self, DOCUMENT_BYTES_MAX, Document};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::unpack::{OpaqueMark, UnpackLimits};

/// Images on this node: content, unpacked layers, and the root filesystems made of them.
#[derive(Debug)]
pub struct ImageStore {
    pub(crate) layout: Layout,
    /// Where the writable layers of containers are.
    pub(crate) containers: PathBuf,
    pub(crate) platform: Platform,
    pub(crate) limits: UnpackLimits,
    pub(crate) opaque_mark: OpaqueMark,
    /// The index as it was last read, with the file it was read from.
    cached: Mutex<Option<(FileStamp, Arc<Index>)>>,
    /// One lock per layer that is being unpacked in this process.
    pub(crate) unpacking: Mutex<BTreeMap<Digest, Arc<Mutex<()>>>>,
}

/// A file is replaced, never changed: another file has another inode or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    mtime: (i64, i64),
    size: u64,
}

/// Layers in use by a container or an image volume.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) chain_ids: Vec<Digest>,
}

impl ImageStore {
    /// Opens `<data-dir>/agent/images` and `<data-dir>/agent/containers`, making what is missing.
    pub fn open(agent_dir: &Path) -> Result<Self> {
        Self::open_for(agent_dir, Platform::host(), UnpackLimits::default())
    }

    /// The same for another platform and other limits.
    pub fn open_for(agent_dir: &Path, platform: Platform, limits: UnpackLimits) -> Result<Self> {
        fs::create_dir_all(agent_dir).map_err(Error::io("make directory", agent_dir))?;
        // The kernel's list of mounts knows no symbolic links.
        let agent_dir = fs::canonicalize(agent_dir).map_err(Error::io("find", agent_dir))?;
        let layout = Layout::create(&agent_dir.join("images"))?;
        let containers = agent_dir.join("containers");
        fs::create_dir_all(&containers).map_err(Error::io("make directory", &containers))?;
        let opaque_mark = if is_first_user_namespace() {
            OpaqueMark::Trusted
        } else {
            OpaqueMark::User
        };
        Ok(Self {
            layout,
            containers,
            platform,
            limits,
            opaque_mark,
            cached: Mutex::new(None),
            unpacking: Mutex::new(BTreeMap::new()),
        })
    }

    /// The directory of the store; archives that lie directly in it are imported at start.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// The list of images as it is on disk now.
    pub(crate) fn index(&self) -> Result<Arc<Index>> {
        let path = self.layout.index();
        let Some(stamp) = stamp(&path)? else {
            return Ok(Arc::new(Index {
                version: INDEX_VERSION,
                ..Index::default()
            }));
        };
        let mut cached = self.cached.lock();
        if let Some((known, index)) = &*cached
            && *known == stamp
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(load(&path)?);
        *cached = Some((stamp, Arc::clone(&index)));
        Ok(index)
    }

    /// Changes the list of images; another process that does so at the same time waits.
    pub(crate) fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T> {
        let _lock = layout::lock(&self.layout.index_lock(), LockMode::Exclusive)?;
        let path = self.layout.index();
        let before = load(&path)?;
        let mut after = before.clone();
        let answer = change(&mut after);
        if after != before {
            layout::write_json(&path, &after)?;
        }
        Ok(answer)
    }

    pub(crate) fn find(&self, name: &str) -> Result<(Digest, ImageRecord)> {
        let index = self.index()?;
        let (id, image) = index.find(name).ok_or_else(|| Error::ImageNotFound {
            name: name.to_owned(),
        })?;
        Ok((id.clone(), image.clone()))
    }

    /// Reads an image whose manifest and configuration are stored, without its names.
    pub(crate) fn read_image(
        &self,
        what: &str,
        manifest: &Digest,
    ) -> Result<(Digest, ImageRecord)> {
        let content = self.layout.read_document(manifest, DOCUMENT_BYTES_MAX)?;
        let Document::Manifest(document) = manifest::parse_document(what, &content)? else {
            return Err(Error::invalid(
                what,
                "is an index where a manifest was expected",
            ));
        };
        let id = manifest::digest_of(document.config())?;
        if !self.layout.has_blob(&id) {
            return Err(Error::invalid(
                what,
                format!("configuration {id} is missing"),
            ));
        }
        let config = self.layout.read_document(&id, DOCUMENT_BYTES_MAX)?;
        let parsed = manifest::join(what, &document, &config, &self.platform)?;
        if let Some(missing) = parsed
            .layers
            .iter()
            .find(|layer| !self.layout.has_blob(&layer.blob))
        {
            return Err(Error::invalid(
                what,
                format!("layer {} is missing", missing.blob),
            ));
        }
        let record = ImageRecord {
            manifest: manifest.clone(),
            layers: parsed.layers,
            tags: BTreeSet::new(),
            repo_digests: BTreeSet::new(),
            pinned: false,
            size_bytes: parsed.size_bytes,
            config: parsed.config,
        };
        Ok((id, record))
    }

    /// Every image, in the order of their ids.
    pub fn list(&self) -> Result<Vec<cri::Image>> {
        Ok(self
            .index()?
            .images
            .iter()
            .map(|(id, image)| in_cri_words(id, image))
            .collect())
    }

    /// The image that a name, a repo digest or an id names.
    pub fn status(&self, name: &str) -> Result<Option<cri::Image>> {
        Ok(self
            .index()?
            .find(name)
            .map(|(id, image)| in_cri_words(id, image)))
    }

    /// Removes an image with all its names, and its content unless a container uses it. Succeeds when there is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        let Some(id) = self.index()?.find(name).map(|(id, _)| id.clone()) else {
            return Ok(());
        };
        self.change_index(|index| index.remove(&id))?;
        self.sweep()
    }

    /// Keeps an image from being garbage, or no longer.
    pub fn set_pin(&self, name: &str, pin: Pin) -> Result<()> {
        let (id, _) = self.find(name)?;
        self.change_index(|index| {
            if let Some(image) = index.images.get_mut(&id) {
                image.pinned = pin == Pin::Pinned;
            }
        })
    }

    /// Gives an image another name.
    pub fn tag(&self, name: &str, tag: &Reference) -> Result<()> {
        let (id, mut image) = self.find(name)?;
        let tag = tag
            .tagged()
            .ok_or_else(|| Error::invalid(tag.to_string(), "a tag is needed"))?;
        image.tags = BTreeSet::from([tag]);
        self.change_index(|index| index.insert(&id, image))
    }

    /// Removes content that no image and no container needs. Does nothing while content is being added, by this process or another:
    /// whoever adds it sweeps at the end.
    pub fn sweep(&self) -> Result<()> {
        let Some(lock) = layout::try_lock(&self.layout.content_lock())? else {
            return Ok(());
        };
        let doomed = self.doom_unused()?;
        // Large trees take their time, and nobody else knows these names: no container start has to wait for it.
        drop(lock);
        doomed
            .iter()
            .try_for_each(|path| layout::remove_tree_if_there(path))
    }

    /// Takes unused layers out of the way, so that a crash leaves no half of a layer behind, and removes unused files.
    fn doom_unused(&self) -> Result<Vec<PathBuf>> {
        let index = self.index()?;
        let blobs: BTreeSet<&str> = index.blobs().into_iter().map(Digest::hex).collect();
        let held = self.held_layers()?;
        let used = index.chain_ids().into_iter().chain(&held);
        let layers: BTreeSet<&str> = used.map(Digest::hex).collect();
        for path in entries_not_in(&self.layout.blobs(), &blobs)? {
            layout::remove_file_if_there(&path)?;
        }
        // What an earlier process did not finish.
        for path in entries_not_in(&self.layout.ingest(), &BTreeSet::new())? {
            if path.is_dir() {
                layout::remove_tree_if_there(&path)?;
            } else {
                layout::remove_file_if_there(&path)?;
            }
        }
        let mut doomed = Vec::new();
        for path in entries_not_in(&self.layout.layers(), &layers)? {
            let away = self.layout.temporary();
            fs::rename(&path, &away).map_err(Error::io("rename", &path))?;
            doomed.push(away);
        }
        Ok(doomed)
    }

    fn held_layers(&self) -> Result<BTreeSet<Digest>> {
        let mut held = BTreeSet::new();
        for path in entries_not_in(&self.layout.holds(), &BTreeSet::new())? {
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
                && let Some(hold) = layout::read_json::<Hold>(&path)?
            {
                held.extend(hold.chain_ids);
            }
        }
        Ok(held)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    Pinned,
    Unpinned,
}

fn load(path: &Path) -> Result<Index> {
    let index: Index = layout::read_json(path)?.unwrap_or_default();
    if index.version > INDEX_VERSION {
        let reason = format!(
            "was written by a newer release (version {}, this one reads {INDEX_VERSION})",
            index.version
        );
        return Err(Error::invalid(path.display().to_string(), reason));
    }
    Ok(Index {
        version: INDEX_VERSION,
        ..index
    })
}

fn stamp(path: &Path) -> Result<Option<FileStamp>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(FileStamp {
            inode: metadata.ino(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.len(),
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("read", path)(source)),
    }
}

fn entries_not_in(directory: &Path, known: &BTreeSet<&str>) -> Result<Vec<PathBuf>> {
    let failed = || Error::io("list", directory);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if !entry
            .file_name()
            .to_str()
            .is_some_and(|name| known.contains(name))
        {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// In another user namespace `trusted.` attributes can be neither set nor read.
fn is_first_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers: Vec<&str> = map.split_whitespace().collect();
    numbers == ["0", "0", "4294967295"]
}

fn in_cri_words(id: &Digest, image: &ImageRecord) -> cri::Image {
    cri::Image {
        id: cri::ImageId(id.to_string()),
        repo_tags: image.tags.iter().map(ToString::to_string).collect(),
        repo_digests: image.repo_digests.iter().map(ToString::to_string).collect(),
        size_bytes: image.size_bytes,
        config: image.config.clone(),
        pinned: image.pinned,
    }
}
