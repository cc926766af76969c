//! The snapshots in a folder: which there are, and which are one too many.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::container::{Header, read_header};
use crate::error::{Error, Result};

/// What the name of a snapshot ends in.
pub const SUFFIX: &str = ".snapshot";
/// A folder with more is not read to its end.
const SNAPSHOTS_MAX: usize = 10_000;

/// A file in the folder.
#[derive(Debug)]
pub struct Listed {
    pub name: String,
    /// Its URL, `file://` or `s3://`.
    pub location: String,
    pub bytes: u64,
    /// An error: it is damaged, or no snapshot.
    pub header: Result<Header>,
}

/// The snapshots of a folder, the newest first; those that cannot be read come last.
pub fn list(folder: &Path) -> Result<Vec<Listed>> {
    let failed = Error::file("read the folder", folder);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut listed = Vec::new();
    for entry in entries.take(SNAPSHOTS_MAX) {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !name.ends_with(SUFFIX) {
            continue;
        }
        let path = entry.path();
        listed.push(Listed {
            name,
            bytes: entry.metadata().map_or(0, |metadata| metadata.len()),
            header: read_header(&path),
            location: format!("file://{}", path.display()),
        });
    }
    Listed::sort(&mut listed);
    Ok(listed)
}

impl Listed {
    pub(crate) fn sort(listed: &mut [Self]) {
        listed.sort_by(|one, other| other.age_key().cmp(&one.age_key()));
    }

    fn age_key(&self) -> (Option<&str>, &str) {
        let header = self.header.as_ref().ok();
        (header.map(|header| header.taken.as_str()), &self.name)
    }
}

/// Removes all but the newest `keep` of a series, of each node by itself; tells which.
pub fn prune(folder: &Path, series: &str, keep: usize) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for listed in surplus(&list(folder)?, series, keep) {
        let path = folder.join(&listed.name);
        fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        removed.push(listed.name.clone());
    }
    Ok(removed)
}

/// Those of a series, the newest first, that come after the first `keep` of their node.
pub(crate) fn surplus<'a>(
    listed: &'a [Listed],
    series: &str,
    keep: usize,
) -> impl Iterator<Item = &'a Listed> {
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    listed.iter().filter(move |listed| {
        // What cannot be read is not known to be of this series.
        let Ok(header) = &listed.header else {
            return false;
        };
        if header.series != series {
            return false;
        }
        let kept = kept.entry(&header.node).or_default();
        *kept += 1;
        *kept > keep
    })
}

/// Removes one by its name.
pub fn delete(folder: &Path, name: &str) -> Result<()> {
    let listed = list(folder)?.into_iter().find(|listed| listed.name == name);
    let Some(listed) = listed else {
        return Err(Error::Unknown {
            name: name.to_owned(),
            folder: folder.to_owned(),
        });
    };
    let path = folder.join(&listed.name);
    fs::remove_file(&path).map_err(Error::file("remove", &path))
}
