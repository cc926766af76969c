//! The files beside the store without which it would be another cluster, or none: authorities, keys, passwords, and the
//! manifests folder, whose missing files would take their objects with them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Below the server's folder; a folder stands for all in it.
const CONTENTS: &[&str] = &["tls", "cred", "manifests", "token", "agent-token"];
const FILES_MAX: usize = 4096;
/// Of all files together.
pub(crate) const FILES_BYTES_MAX: u64 = 64 << 20;
const DEPTH_MAX: usize = 16;
const PRIVATE_FOLDER: u32 = 0o700;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packed {
    /// Below the server's folder.
    path: String,
    mode: u32,
    /// In base64.
    contents: String,
}

/// Reads all of them into one piece.
pub(crate) fn pack(server: &Path) -> Result<Vec<u8>> {
    let mut packing = Packing {
        server,
        files: Vec::new(),
        bytes_left: FILES_BYTES_MAX,
    };
    for name in CONTENTS {
        packing.add(Path::new(name), 0)?;
    }
    Ok(serde_json::to_vec(&packing.files).expect("texts and numbers are JSON"))
}

struct Packing<'a> {
    server: &'a Path,
    files: Vec<Packed>,
    bytes_left: u64,
}

impl Packing<'_> {
    fn add(&mut self, name: &Path, depth: usize) -> Result<()> {
        let path = self.server.join(name);
        let kind = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("look at", &path)(error)),
        };
        if kind.is_dir() {
            return self.add_folder(name, &path, depth);
        }
        // A link in the manifests folder stands for the file that it leads to.
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            self.add_file(name, &path)?;
        }
        Ok(())
    }

    fn add_folder(&mut self, name: &Path, path: &Path, depth: usize) -> Result<()> {
        if depth >= DEPTH_MAX {
            let why = format!("{} is more than {DEPTH_MAX} folders deep", path.display());
            return Err(Error::TooMuch(why));
        }
        let failed = Error::file("read the folder", path);
        let entries = fs::read_dir(path).map_err(&failed)?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(&failed)?.file_name());
        }
        names.sort_unstable();
        for entry in names {
            self.add(&name.join(entry), depth + 1)?;
        }
        Ok(())
    }

    fn add_file(&mut self, name: &Path, path: &Path) -> Result<()> {
        let failed = Error::file("read", path);
        let file = fs::File::open(path).map_err(&failed)?;
        let mode = file.metadata().map_err(&failed)?.permissions().mode() & 0o777;
        let mut contents = Vec::new();
        file.take(self.bytes_left + 1)
            .read_to_end(&mut contents)
            .map_err(&failed)?;
        let fits = self.bytes_left.checked_sub(contents.len() as u64);
        let (Some(left), true) = (fits, self.files.len() < FILES_MAX) else {
            return Err(Error::TooMuch(format!(
                "the server's files beside the store, its manifests folder among them, are more than {} MiB or \
                 {FILES_MAX} files: a snapshot holds no more; {} is the first too many",
                FILES_BYTES_MAX >> 20,
                path.display()
            )));
        };
        self.bytes_left = left;
        let text = name.to_str().ok_or_else(|| {
            Error::TooMuch(format!("the name of {} is not UTF-8", path.display()))
        })?;
        self.files.push(Packed {
            path: text.to_owned(),
            mode,
            contents: STANDARD.encode(contents),
        });
        Ok(())
    }
}

/// Reads what [`pack`] made; `None` if it did not.
pub(crate) fn unpack(packed: &[u8]) -> Option<Vec<Packed>> {
    let files: Vec<Packed> = serde_json::from_slice(packed).ok()?;
    (files.len() <= FILES_MAX && files.iter().all(|file| file.place().is_some())).then_some(files)
}

impl Packed {
    /// Where it belongs below the server's folder, if it belongs there at all.
    fn place(&self) -> Option<PathBuf> {
        let path = Path::new(&self.path);
        let mut parts = path.components();
        let is_plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
        let first = parts.next().filter(is_plain)?;
        let is_known = CONTENTS.iter().any(|name| first.as_os_str() == *name);
        (is_known && parts.all(|part| is_plain(&part))).then(|| path.to_owned())
    }

    /// Writes it below `server`, durably.
    pub(crate) fn write(&self, server: &Path) -> Result<()> {
        let place = self.place().expect("unpacked files have their place");
        let path = server.join(place);
        let folder = path.parent().unwrap_or(server);
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(folder)
            .map_err(Error::file("make the folder", folder))?;
        let failed = Error::file("write", &path);
        let damaged = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no base64");
        let contents = STANDARD
            .decode(&self.contents)
            .map_err(damaged)
            .map_err(&failed)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(self.mode & 0o777)
            .open(&path)
            .map_err(&failed)?;
        file.write_all(&contents)
            .and_then(|()| file.sync_all())
            .map_err(&failed)
    }
}
