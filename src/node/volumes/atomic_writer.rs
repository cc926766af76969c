//! Exchanges all files of a volume at once: readers see the old set or the new one, never a mixture.
//!
//! The files lie in a directory named after the moment they were written, `..data` is a symbolic link to it that is exchanged by rename, and each
//! visible name is a link through `..data`. Containers see such volumes read-only, so nothing inside is hostile.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use env::{Clock, Rng};

use crate::error::{Error, Result};
use crate::payload::{Payload, PayloadFile};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const DIRECTORY_MODE: u32 = 0o755;

/// Whether the files had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    New,
    Unchanged,
}

/// Brings the volume to exactly these files. `prepare` sees the new directory before anybody else does.
pub(crate) fn write(
    volume: &Path,
    payload: &Payload,
    clock: &dyn Clock,
    rng: &dyn Rng,
    prepare: impl FnOnce(&Path) -> Result<()>,
) -> Result<Written> {
    let old = current(volume)?;
    let written = if old
        .as_deref()
        .is_some_and(|old| holds_exactly(&volume.join(old), payload))
    {
        Written::Unchanged
    } else {
        publish(volume, payload, clock, rng, prepare)?;
        Written::New
    };
    let visible: BTreeSet<&str> = payload
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect();
    for name in &visible {
        make_visible(volume, name)?;
    }
    remove_rest(volume, &visible)?;
    Ok(written)
}

fn current(volume: &Path) -> Result<Option<PathBuf>> {
    let link = volume.join(DATA);
    match fs::read_link(&link) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read link", &link)(error)),
    }
}

fn publish(
    volume: &Path,
    payload: &Payload,
    clock: &dyn Clock,
    rng: &dyn Rng,
    prepare: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let name = format!(
        "..{}.{:010}",
        clock.now().to_jiff().strftime("%Y_%m_%d_%H_%M_%S"),
        rng.next_u64() % 10_000_000_000
    );
    let directory = volume.join(&name);
    make_directory(&directory)?;
    for (path, file) in payload {
        write_file(&directory, path, file)?;
    }
    prepare(&directory)?;
    let new_link = volume.join(NEW_DATA);
    match fs::remove_file(&new_link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &new_link)(error));
        }
        _ => {}
    }
    symlink(&name, &new_link).map_err(Error::io("make link", &new_link))?;
    let link = volume.join(DATA);
    fs::rename(&new_link, &link).map_err(Error::io("exchange", &link))
}

fn write_file(directory: &Path, path: &str, file: &PayloadFile) -> Result<()> {
    let target = directory.join(path);
    let mut parent = directory.to_path_buf();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        parent.push(part);
        if parts.peek().is_some() && !parent.is_dir() {
            make_directory(&parent)?;
        }
    }
    fs::write(&target, &file.data).map_err(Error::io("write", &target))?;
    // The mode that `write` gives depends on the umask.
    fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))
        .map_err(Error::io("set the mode of", &target))?;
    match file.owner {
        Some(owner) => {
            chown(&target, Some(owner), None).map_err(Error::io("set the owner of", &target))
        }
        None => Ok(()),
    }
}

fn make_directory(directory: &Path) -> Result<()> {
    fs::create_dir(directory).map_err(Error::io("make directory", directory))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))
        .map_err(Error::io("set the mode of", directory))
}

/// Whether the directory has all files with their content and no others.
fn holds_exactly(directory: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &PayloadFile)| {
        fs::read(directory.join(path)).is_ok_and(|data| data == file.data)
    };
    payload.iter().all(same) && files_below(directory).is_ok_and(|files| files == payload.len())
}

fn files_below(directory: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() {
            files_below(&entry.path())?
        } else {
            1
        };
    }
    Ok(files)
}

fn make_visible(volume: &Path, name: &str) -> Result<()> {
    let link = volume.join(name);
    match symlink(Path::new(DATA).join(name), &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && link.is_symlink() => Ok(()),
        made => made.map_err(Error::io("make link", &link)),
    }
}

/// Removes links to files that are gone, and directories of older files. Mount points of other volumes are plain directories and stay.
fn remove_rest(volume: &Path, visible: &BTreeSet<&str>) -> Result<()> {
    let now = current(volume)?;
    for entry in fs::read_dir(volume).map_err(Error::io("list", volume))? {
        let entry = entry.map_err(Error::io("list", volume))?;
        let (name, path) = (entry.file_name(), entry.path());
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let text = name.to_string_lossy();
        if text == DATA || now.as_deref().is_some_and(|now| now.as_os_str() == name) {
            continue;
        }
        if is_link && !visible.contains(text.as_ref()) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        } else if !is_link && text.starts_with("..") {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
