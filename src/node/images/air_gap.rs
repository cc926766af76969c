//! Archives and lists that lie in the store's directory: each archive is imported once, until it changes or its images are gone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::arrivals::Arrivals;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::ArchiveRecord;
use crate::reference::Reference;
use crate::store::ImageStore;

const ARCHIVE_ENDINGS: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];
const REFUSED_ENDINGS: &[&str] = &[".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lz4"];
const LIST_BYTES_MAX: u64 = 1024 * 1024;

/// What lies in the directory and waits.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AirGapFiles {
    /// File names of archives, and of directories with an OCI layout, that are new or changed, in order.
    pub archives: Vec<String>,
    /// Images that `.txt` lists name, to be pulled if they are not there.
    pub listed: Vec<Reference>,
    /// File names that cannot be read, with the reason.
    pub refused: Vec<(String, String)>,
}

pub(crate) fn is_archive(name: &str) -> bool {
    !name.starts_with('.') && ARCHIVE_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

pub(crate) fn is_list(name: &str) -> bool {
    !name.starts_with('.') && name.strip_suffix(".txt").is_some()
}

impl ImageStore {
    /// Looks for archives and lists. Cheap: unchanged archives are known by size and time.
    pub fn air_gap_files(&self) -> Result<AirGapFiles> {
        let root = self.layout.root();
        let mut names: Vec<String> = fs::read_dir(root)
            .map_err(Error::io("list", root))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        let mut files = AirGapFiles::default();
        for name in names {
            if is_archive(&name) || is_oci_layout(&root.join(&name)) {
                if !self.is_imported(&name)? {
                    files.archives.push(name);
                }
            } else if is_list(&name) {
                match read_list(&root.join(&name)) {
                    Ok(listed) => files.listed.extend(listed),
                    Err(error) => files.refused.push((name, error.chain())),
                }
            } else if REFUSED_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                files.refused.push((
                    name,
                    String::from("this compression is not supported; use gzip, zstd or none"),
                ));
            }
        }
        Ok(files)
    }

    /// Imports one archive of the directory and remembers that it did.
    pub fn import_air_gap(&self, name: &str) -> Result<Vec<crate::ImportedImage>> {
        self.import_air_gap_for(name, &Arrivals::default())
    }

    /// The same; images that somebody waits for come first.
    pub(crate) fn import_air_gap_for(
        &self,
        name: &str,
        arrivals: &Arrivals,
    ) -> Result<Vec<crate::ImportedImage>> {
        let path = self.layout.root().join(name);
        // Looked at before, so that a file that changes meanwhile is imported again.
        let seen = seen(&path)?;
        let imported = self.import_for(&path, arrivals)?;
        let images = imported
            .iter()
            .map(|image| Digest::parse(&image.id.0))
            .collect::<Result<BTreeSet<_>>>()?;
        self.change_index(|index| {
            index.archives.insert(
                name.to_owned(),
                ArchiveRecord {
                    size_bytes: seen.0,
                    mtime_nanoseconds: seen.1,
                    images,
                },
            );
        })?;
        Ok(imported)
    }

    fn is_imported(&self, name: &str) -> Result<bool> {
        let index = self.index()?;
        let Some(known) = index.archives.get(name) else {
            return Ok(false);
        };
        let found = seen(&self.layout.root().join(name))?;
        let complete =
            !known.images.is_empty() && known.images.iter().all(|id| index.images.contains_key(id));
        Ok(complete && found == (known.size_bytes, known.mtime_nanoseconds))
    }
}

/// Whether a directory has all of an OCI layout but, perhaps, some of its content.
fn is_oci_layout(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    has("oci-layout") && has("index.json")
}

/// Another size or time means another archive; of an OCI layout the index, which names everything else by digest.
fn seen(path: &Path) -> Result<(u64, i128)> {
    let mut metadata = fs::metadata(path).map_err(Error::io("read", path))?;
    if metadata.is_dir() {
        let index = path.join("index.json");
        metadata = fs::metadata(&index).map_err(Error::io("read", &index))?;
    }
    Ok((
        metadata.len(),
        i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
    ))
}

/// One image a line; `#` begins a comment.
fn read_list(path: &Path) -> Result<Vec<Reference>> {
    let size_bytes = fs::metadata(path).map_err(Error::io("read", path))?.len();
    if size_bytes > LIST_BYTES_MAX {
        return Err(Error::TooLarge {
            what: path.display().to_string(),
            size_bytes,
            size_bytes_max: LIST_BYTES_MAX,
        });
    }
    fs::read_to_string(path)
        .map_err(Error::io("read", path))?
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(Reference::parse)
        .collect()
}
