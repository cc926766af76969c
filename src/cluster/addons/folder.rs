//! The folder as it is at one moment, and being told when it changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use linux::inotify::Watches;
use tokio::io::unix::AsyncFd;

use crate::manifest::{Manifest, parse};
use crate::record::checksum;

const FILE_BYTES_MAX: u64 = 16 << 20;
const FILES_MAX: usize = 2000;
const DEPTH_MAX: usize = 16;
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Beside a file, it says that the file is not to be looked at.
const SKIP: &str = ".skip";

/// What lies in the folder.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// By path relative to the folder.
    pub(crate) files: BTreeMap<String, FileState>,
    /// What the files' names begin with, where several servers have such a folder; empty where there is one.
    pub(crate) owner: String,
    /// Everything could be looked at: what is not here is gone.
    pub(crate) is_whole: bool,
    /// The folder and those below it.
    pub(crate) folders: Vec<PathBuf>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum FileState {
    /// Somebody said `.skip`: nothing is made, changed or taken away.
    Skipped,
    /// What is wrong with it.
    Bad(String),
    Good {
        checksum: String,
        manifests: Vec<Manifest>,
    },
}

impl Snapshot {
    /// The same files under names that say whose they are.
    pub(crate) fn owned_by(mut self, owner: Option<&str>) -> Self {
        if let Some(owner) = owner {
            self.owner = format!("{owner}:");
            let named = |(file, state)| (format!("{}{file}", self.owner), state);
            self.files = std::mem::take(&mut self.files)
                .into_iter()
                .map(named)
                .collect();
        }
        self
    }

    /// Whether a file, which may be gone, is of this folder.
    pub(crate) fn is_of(&self, file: &str) -> bool {
        file.starts_with(&self.owner)
    }

    /// Reads everything. What cannot be read is remembered as that, never as gone.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut snapshot = Self {
            is_whole: true,
            ..Self::default()
        };
        snapshot.enter(folder, folder, 0);
        snapshot
    }

    fn enter(&mut self, root: &Path, folder: &Path, depth: usize) {
        let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.is_whole = false;
                tracing::warn!(%error, folder = %folder.display(), "a folder of manifests cannot be read");
                return;
            }
        };
        self.folders.push(folder.to_owned());
        let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
        paths.sort();
        for path in paths {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                if depth < DEPTH_MAX {
                    self.enter(root, &path, depth + 1);
                } else {
                    self.is_whole = false;
                    tracing::warn!(folder = %path.display(), "folders of manifests are at most {DEPTH_MAX} deep: it is not entered");
                }
                continue;
            }
            self.take(root, &path);
        }
    }

    fn take(&mut self, root: &Path, path: &Path) {
        let relative = path.strip_prefix(root).unwrap_or(path);
        let Some(file) = relative.to_str() else {
            return;
        };
        if let Some(skipped) = file.strip_suffix(SKIP).filter(|file| is_manifest(file)) {
            self.files.insert(skipped.to_owned(), FileState::Skipped);
            return;
        }
        if !is_manifest(file) || self.files.contains_key(file) {
            return;
        }
        let skip = format!("{}{SKIP}", path.display());
        if Path::new(&skip).exists() {
            self.files.insert(file.to_owned(), FileState::Skipped);
            return;
        }
        if self.files.len() >= FILES_MAX {
            self.is_whole = false;
            tracing::warn!(
                file,
                "there are more than {FILES_MAX} manifests: it is not read"
            );
            return;
        }
        match read(path) {
            Ok(state) => {
                self.files.insert(file.to_owned(), state);
            }
            // It went while we looked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {}
            Err(error) => {
                let state = FileState::Bad(error.to_string());
                self.files.insert(file.to_owned(), state);
            }
        }
    }
}

fn is_manifest(file: &str) -> bool {
    let ending = Path::new(file)
        .extension()
        .and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn read(path: &Path) -> std::io::Result<FileState> {
    // A pipe would never end.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(FileState::Bad("it is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it has more than {FILE_BYTES_MAX} bytes; divide it into several files");
        return Ok(FileState::Bad(why));
    }
    let checksum = checksum(&bytes);
    let parsed = String::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8: {error}"))
        .and_then(|text| parse(&text));
    Ok(match parsed {
        Ok(manifests) => FileState::Good {
            checksum,
            manifests,
        },
        Err(why) => FileState::Bad(why),
    })
}

/// Tells of changes in folders.
pub(crate) struct Watched(AsyncFd<Watches>);

impl Watched {
    /// Watch before you read: then nothing is missed in between.
    #[expect(
        deprecated,
        reason = "the watches own their descriptor and keep it while they live; the other constructor is unsafe"
    )]
    pub(crate) fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let watches = Watches::new().map_err(std::io::Error::other)?;
        watches
            .watch_directory(folder)
            .map_err(std::io::Error::other)?;
        Ok(Self(AsyncFd::new(watches)?))
    }

    /// Watches these too; those that are watched already stay.
    pub(crate) fn also(&self, folders: &[PathBuf]) -> bool {
        let watched = |folder: &PathBuf| match self.0.get_ref().watch_directory(folder) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "changes in a folder of manifests are not told");
                false
            }
        };
        // Each is watched, also after one that could not be.
        let all: Vec<bool> = folders.iter().map(watched).collect();
        !all.contains(&false)
    }

    /// Waits for a change.
    pub(crate) async fn changed(&self) {
        if let Ok(mut ready) = self.0.readable().await {
            ready.clear_ready();
        }
    }

    /// Forgets the changes so far.
    pub(crate) fn take(&self) {
        if let Err(error) = self.0.get_ref().take() {
            tracing::warn!(%error, "changes of manifests are not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";

    #[test]
    fn manifests_of_all_folders_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        std::fs::create_dir(root.join("apps")).expect("a folder");
        std::fs::create_dir(root.join(".git")).expect("a folder");
        for (file, text) in [
            ("a.yaml", POD),
            ("apps/b.yml", POD),
            ("apps/c.json", "{"),
            (".d.yaml", POD),
            (".git/e.yaml", POD),
            ("f.txt", POD),
            ("g.yaml", POD),
            ("g.yaml.skip", ""),
            ("h.yaml.skip", ""),
        ] {
            std::fs::write(root.join(file), text).expect("written");
        }
        std::os::unix::fs::symlink("/none", root.join("i.yaml")).expect("a link");
        let snapshot = Snapshot::read(root);
        let states: Vec<(&str, &str)> = snapshot
            .files
            .iter()
            .map(|(file, state)| {
                let state = match state {
                    FileState::Good { .. } => "good",
                    FileState::Bad(_) => "bad",
                    FileState::Skipped => "skipped",
                };
                (file.as_str(), state)
            })
            .collect();
        let expected = [
            ("a.yaml", "good"),
            ("apps/b.yml", "good"),
            ("apps/c.json", "bad"),
            ("g.yaml", "skipped"),
            ("h.yaml", "skipped"),
            ("i.yaml", "bad"),
        ];
        assert_eq!(states, expected);
        assert!(snapshot.is_whole);
        assert_eq!(snapshot.folders.len(), 2);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
        assert!(!Snapshot::read(Path::new("/none")).is_whole);
    }
}
