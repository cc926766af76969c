//! Wakes whoever waits for an image or an archive when another process changed the store; costs nothing while nothing happens.

use linux::Readable;
use linux::inotify::Watches;

use crate::air_gap::{is_archive, is_list};
use crate::error::Result;
use crate::store::ImageStore;

/// What happened in the store's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChange {
    /// The list of images is another.
    Images,
    /// An archive or a list was put or changed: its file name.
    AirGapFile(String),
}

/// A watch on the store's directory; it ends when dropped.
#[derive(Debug)]
pub struct StoreWatch {
    watches: Watches,
    readable: Readable,
    pending: Vec<StoreChange>,
}

impl ImageStore {
    /// Begins to watch. Needs a tokio runtime.
    pub fn watch(&self) -> Result<StoreWatch> {
        let watches = Watches::new()?;
        watches.watch_directory(self.layout.root())?;
        let readable = Readable::new(&watches)?;
        Ok(StoreWatch {
            watches,
            readable,
            pending: Vec::new(),
        })
    }
}

impl StoreWatch {
    /// The next change. Several changes of the list of images may be told as one; cancel safe.
    pub async fn changed(&mut self) -> Result<StoreChange> {
        loop {
            if let Some(change) = self.pending.pop() {
                return Ok(change);
            }
            let watches = &self.watches;
            let changes = self
                .readable
                .read_with(|| {
                    Some(watches.take())
                        .filter(|taken| !matches!(taken, Ok(changes) if changes.is_empty()))
                })
                .await??;
            self.pending = meaning(&changes);
        }
    }
}

fn meaning(changes: &[linux::inotify::Change]) -> Vec<StoreChange> {
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
