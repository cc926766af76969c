//! Makes a server's folder of a snapshot: checked whole before anything is written, made beside its place, and put there
//! by one rename.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::DataDir;
use env::{Rng, Timestamp};
use sqlite::{SealingKeys, check_copy, is_open, mark_restored};

use crate::container::{Header, extract_database, read_keys, verify};
use crate::error::{Error, Result};
use crate::files::{self, Packed};
use crate::passphrase::Passphrase;
use crate::save::{bootstrap_sealers, default_folder, sync_folder};

/// Of the server's folder.
const PRIVATE_FOLDER: u32 = 0o700;
/// The folder in which the server's is made.
const STAGE: &str = ".restoring";
const SERVER: &str = "server";

/// What becomes of a cluster that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    /// Its folder gets another name.
    SetAside,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub header: Header,
    pub keys: usize,
    /// Where the cluster lies that was there before.
    pub set_aside: Option<PathBuf>,
}

/// Puts the cluster of a snapshot in a data folder. A server that is started on it with the same flags is the same
/// cluster; whoever saw the original afterwards reads everything anew.
pub fn restore(
    snapshot: &Path,
    data_dir: &DataDir,
    passphrase: Option<&Passphrase>,
    existing: Existing,
    (now, rng): (Timestamp, &Arc<dyn Rng>),
) -> Result<Restored> {
    let header = verify(snapshot)?;
    let files = unwrapped(snapshot, &header, passphrase)?;
    if is_open(&data_dir.database())? {
        return Err(Error::Running(data_dir.root().to_owned()));
    }
    let root = data_dir.root();
    let is_there = has_files(&root.join(SERVER));
    if is_there && existing == Existing::Refuse {
        return Err(Error::NotEmpty(root.to_owned()));
    }
    let stage = DataDir::at(&root.join(STAGE));
    remove(stage.root())?;
    let staged = make(snapshot, &header, &files, &stage, rng);
    if staged.is_err() {
        remove(stage.root())?;
    }
    let keys = staged?;
    let set_aside = swap(data_dir, &stage, is_there, now)?;
    Ok(Restored {
        header,
        keys,
        set_aside,
    })
}

fn unwrapped(
    snapshot: &Path,
    header: &Header,
    passphrase: Option<&Passphrase>,
) -> Result<Vec<Packed>> {
    let keys = read_keys(snapshot)?;
    let keys = match (&header.wrapping, passphrase) {
        (None, _) => keys,
        (Some(_), None) => return Err(Error::PassphraseMissing(snapshot.to_owned())),
        (Some(wrapping), Some(passphrase)) => passphrase
            .unwrap(wrapping, keys)
            .ok_or_else(|| Error::WrongPassphrase(snapshot.to_owned()))?,
    };
    files::unpack(&keys).ok_or_else(|| Error::Damaged {
        path: snapshot.to_owned(),
        why: "its keys cannot be read".to_owned(),
    })
}

/// Makes the server's folder below the stage; tells how many keys the store has.
fn make(
    snapshot: &Path,
    header: &Header,
    files: &[Packed],
    stage: &DataDir,
    rng: &Arc<dyn Rng>,
) -> Result<usize> {
    let server = stage.root().join(SERVER);
    let database = stage.database();
    let folder = database.parent().expect("the database is in a folder");
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(folder)
        .map_err(Error::file("make the folder", folder))?;
    for file in files {
        file.write(&server)?;
    }
    extract_database(snapshot, &database)?;
    let damaged = |why: String| Error::Damaged {
        path: snapshot.to_owned(),
        why,
    };
    let sealing = SealingKeys::load(&stage.encryption_key(), Arc::clone(rng))?;
    let checked = check_copy(&database, bootstrap_sealers(sealing))?;
    if let Some(problem) = checked.problems.first() {
        return Err(damaged(problem.clone()));
    }
    if checked.revision != header.revision {
        return Err(damaged("its database is not of its revision".to_owned()));
    }
    mark_restored(&database)?;
    sync_folders(&server)?;
    Ok(checked.keys)
}

/// Puts what was made in its place.
fn swap(
    data_dir: &DataDir,
    stage: &DataDir,
    is_there: bool,
    now: Timestamp,
) -> Result<Option<PathBuf>> {
    let (root, server) = (data_dir.root(), data_dir.root().join(SERVER));
    let made = stage.root().join(SERVER);
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(Error::file("rename", from));
    let mut set_aside = None;
    if is_there {
        let aside = root.join(format!("{SERVER}-before-{}", now.unix_seconds()));
        rename(&server, &aside)?;
        set_aside = Some(aside);
    } else {
        // Folders without a file in them are in the way of the rename.
        remove(&server)?;
    }
    rename(&made, &server)?;
    if let Some(aside) = &set_aside {
        // Snapshots belong to no cluster that is there or not.
        let snapshots = default_folder(&DataDir::at(root));
        let kept = aside.join(
            snapshots
                .strip_prefix(&server)
                .expect("they are below the server's folder"),
        );
        if kept.is_dir() {
            rename(&kept, &snapshots)?;
        }
    }
    remove(stage.root())?;
    sync_folder(root)?;
    Ok(set_aside)
}

fn has_files(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            has_files(&entry.path())
        } else {
            true
        }
    })
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

fn sync_folders(folder: &Path) -> Result<()> {
    let failed = Error::file("read the folder", folder);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if entry.file_type().map_err(&failed)?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}
