//! Which images an archive has, read without importing it: cheap, so that pods know at once what to wait for.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;

use crate::archive::{DockerEntry, name_of};
use crate::arrivals::Contents;
use crate::compression;
use crate::manifest::{self, DOCUMENT_BYTES_MAX, Document};
use crate::reference::Reference;
use crate::tar_reader::TarReader;

/// Entries that are passed over before an archive counts as one of unknown contents.
const ENTRIES_MAX: usize = 100_000;

/// What cannot be read is told when it is imported: until then anything may be in it.
pub(crate) fn of(archive: &Path) -> Contents {
    let names = if archive.is_dir() {
        of_folder(archive)
    } else {
        of_file(archive)
    };
    names.map_or(Contents::Unknown, Contents::Named)
}

fn of_folder(folder: &Path) -> Option<BTreeSet<Reference>> {
    let path = folder.join("index.json");
    let is_small = fs::symlink_metadata(&path)
        .is_ok_and(|found| found.is_file() && found.len() <= DOCUMENT_BYTES_MAX);
    let content = is_small.then(|| fs::read(&path).ok()).flatten()?;
    of_index(&content)
}

/// Of a plain archive: a compressed one would have to be decompressed to its end.
fn of_file(archive: &Path) -> Option<BTreeSet<Reference>> {
    let mut file = File::open(archive).ok()?;
    if compression::is_compressed(&mut file).ok()? {
        return None;
    }
    file.rewind().ok()?;
    let mut tar = TarReader::seeking(file);
    let mut names = BTreeSet::new();
    let mut is_described = false;
    for _entry in 0..ENTRIES_MAX {
        let Some(entry) = tar.next_entry().ok()? else {
            return is_described.then_some(names);
        };
        let read = match entry.display().trim_start_matches("./") {
            "index.json" => of_index,
            "manifest.json" => of_manifest,
            _ => continue,
        };
        let mut content = Vec::new();
        let mut bounded = (&mut tar).take(DOCUMENT_BYTES_MAX);
        bounded.read_to_end(&mut content).ok()?;
        names.extend(read(&content)?);
        is_described = true;
    }
    None
}

fn of_index(content: &[u8]) -> Option<BTreeSet<Reference>> {
    let Ok(Document::Index(index)) = manifest::parse_document("index.json", content) else {
        return None;
    };
    let mut names = BTreeSet::new();
    for descriptor in index.manifests() {
        let Some(name) = name_of(descriptor) else {
            continue;
        };
        names.extend(name.tagged());
        names.insert(name.with_digest(&manifest::digest_of(descriptor).ok()?));
    }
    Some(names)
}

fn of_manifest(content: &[u8]) -> Option<BTreeSet<Reference>> {
    let entries: Vec<DockerEntry> = serde_json::from_slice(content).ok()?;
    let tags = entries.iter().flat_map(|entry| &entry.repo_tags).flatten();
    tags.map(|tag| Reference::parse(tag).ok()).collect()
}
