//! Wakes whoever waits for an image or an archive when another process changed the store; costs nothing while nothing happens.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use linux::Readable;
use linux::inotify::{Change, Watches};

use crate::air_gap::{is_archive, is_list};
use crate::error::Result;
use crate::layout::Layout;
use crate::store::ImageStore;

/// What happened in the store's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChange {
    /// The list of images is another.
    Images,
    /// An archive or a list was put or changed: its file name.
    AirGapFile(String),
    /// Something changed in a directory that may have an OCI layout; more may follow.
    AirGapFolder,
}

/// A watch on the store's directory; it ends when dropped.
#[derive(Debug)]
pub struct StoreWatch {
    root: PathBuf,
    own: Watched,
    /// Directories of others: with events of their own, whose names would be taken for the store's.
    folders: Watched,
    pending: Vec<StoreChange>,
}

#[derive(Debug)]
struct Watched {
    watches: Watches,
    readable: Readable,
}

impl Watched {
    fn new() -> Result<Self> {
        let watches = Watches::new()?;
        let readable = Readable::new(&watches)?;
        Ok(Self { watches, readable })
    }

    /// The next changes, at least one; cancel safe.
    async fn changes(&self) -> Result<Vec<Change>> {
        let taken = self.readable.read_with(|| {
            let taken = self.watches.take();
            Some(taken).filter(|taken| !matches!(taken, Ok(changes) if changes.is_empty()))
        });
        Ok(taken.await??)
    }
}

impl ImageStore {
    /// Begins to watch. Needs a tokio runtime.
    pub fn watch(&self) -> Result<StoreWatch> {
        let own = Watched::new()?;
        own.watches.watch_directory(self.layout.root())?;
        let watch = StoreWatch {
            root: self.layout.root().to_path_buf(),
            own,
            folders: Watched::new()?,
            pending: Vec::new(),
        };
        watch.watch_folders();
        Ok(watch)
    }
}

impl StoreWatch {
    /// The next change. Several changes of the list of images may be told as one; cancel safe.
    pub async fn changed(&mut self) -> Result<StoreChange> {
        loop {
            if let Some(change) = self.pending.pop() {
                return Ok(change);
            }
            tokio::select! {
                biased;
                changes = self.own.changes() => {
                    let changes = changes?;
                    self.pending = meaning(&changes);
                    if self.has_new_folder(&changes) {
                        self.watch_folders();
                        self.pending.push(StoreChange::AirGapFolder);
                    }
                }
                changes = self.folders.changes() => {
                    changes?;
                    self.watch_folders();
                    self.pending.push(StoreChange::AirGapFolder);
                }
            }
        }
    }

    fn has_new_folder(&self, changes: &[Change]) -> bool {
        let names = changes.iter().filter_map(|change| change.name.as_ref());
        names
            .into_iter()
            .any(|name| is_folder(&self.root.join(name)))
    }

    /// Watches every directory that is not the store's own, and where an OCI layout in it would have its content.
    fn watch_folders(&self) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for folder in entries
            .map(|entry| entry.path())
            .filter(|path| is_folder(path))
        {
            for below in ["", "blobs", "blobs/sha256"] {
                // One that is not there yet is watched when it is made.
                let _there = self.folders.watches.watch_directory(&folder.join(below));
            }
        }
    }
}

/// Whether this is a directory that somebody put beside the store.
fn is_folder(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| !name.starts_with('.') && !Layout::OWN_FOLDERS.contains(&name))
        && fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn meaning(changes: &[Change]) -> Vec<StoreChange> {
    let mut meant = Vec::new();
    for change in changes {
        let name = change
            .name
            .as_ref()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let what = match name {
            "index.json" => StoreChange::Images,
            // After an overflow anything may have happened.
            _ if change.overflow => StoreChange::Images,
            _ if is_archive(name) || is_list(name) => StoreChange::AirGapFile(name.to_owned()),
            _ => continue,
        };
        if !meant.contains(&what) {
            meant.push(what);
        }
    }
    meant
}
