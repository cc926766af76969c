//! The record of one installed service: what it put where. It is written before the thing itself,
//! so that a power cut leaves nothing that no record knows.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use linux::AtomicFile;
use serde::{Deserialize, Serialize};

use crate::boot_words::BootWords;
use crate::error::{Error, Result};

/// One file a service. Beside the configuration, because data folders differ.
const RECORDS: &str = "/etc/combo/install";
const RECORD_ENDING: &str = "json";
const SERVICE_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    Systemd,
    Openrc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Server,
    Agent,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Server => "server",
            Self::Agent => "agent",
        })
    }
}

/// Whether a file had to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Changed,
    Same,
}

/// A service as it was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Installation {
    pub service: String,
    pub init: Init,
    pub role: Role,
    /// What the service's program is started with.
    pub arguments: Vec<String>,
    /// The file with the service's variables.
    pub environment: PathBuf,
    pub(crate) made: Vec<Made>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot_words: Option<BootWords>,
    /// Where this record lies.
    #[serde(skip)]
    pub(crate) records: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Made {
    /// A file or a link.
    File(PathBuf),
    /// Goes when nothing is left in it.
    Folder(PathBuf),
}

/// Every service installed here, by name.
pub fn installations() -> Result<Vec<Installation>> {
    read_all(Path::new(RECORDS))
}

pub(crate) fn read_all(records: &Path) -> Result<Vec<Installation>> {
    let entries = match fs::read_dir(records) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::file("list", records))?,
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|ending| ending == RECORD_ENDING)
    });
    paths.sort();
    paths.iter().map(|path| read(path, records)).collect()
}

fn read(path: &Path, records: &Path) -> Result<Installation> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let mut installation: Installation =
        serde_json::from_str(&text).map_err(|source| Error::Record {
            path: path.to_owned(),
            source,
        })?;
    records.clone_into(&mut installation.records);
    Ok(installation)
}

impl Installation {
    /// Begins to install a service, or goes on with one that is installed: what was recorded stays
    /// recorded.
    pub fn begin(
        service: &str,
        init: Init,
        role: Role,
        arguments: Vec<String>,
        environment: PathBuf,
    ) -> Result<Self> {
        let records = PathBuf::from(RECORDS);
        let before = Self::find(service)?;
        let installation = Self {
            service: service.to_owned(),
            init,
            role,
            arguments,
            environment,
            made: before.iter().flat_map(|known| known.made.clone()).collect(),
            boot_words: before.and_then(|known| known.boot_words),
            records,
        };
        installation.start()
    }

    fn start(mut self) -> Result<Self> {
        let name = &self.service;
        let is_good = !name.is_empty()
            && name.len() <= SERVICE_BYTES_MAX
            && name.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@')
            })
            && !name.starts_with(['-', '.']);
        if !is_good {
            return Err(Error::Refused(format!(
                "{name:?} is no name of a service: letters, digits, - and _ are allowed"
            )));
        }
        // The record itself lies in the first folders that are made; they are written down with the
        // first file.
        let made = make_folders(&self.records)?;
        self.made.extend(made.into_iter().map(Made::Folder));
        self.save()?;
        Ok(self)
    }

    /// The record of a service, if it is installed.
    pub fn find(service: &str) -> Result<Option<Self>> {
        let all = installations()?;
        Ok(all.into_iter().find(|known| known.service == service))
    }

    /// Writes a file durably if its contents or mode differ.
    pub fn put(&mut self, content: &[u8], path: &Path, mode: u32) -> Result<Outcome> {
        let path = &absolute(path)?;
        self.prepare(path)?;
        let is_same = fs::symlink_metadata(path).is_ok_and(|metadata| {
            metadata.is_file()
                && metadata.mode() & 0o7777 == mode
                && metadata.len() == content.len() as u64
        }) && fs::read(path).is_ok_and(|found| found == content);
        if is_same {
            return Ok(Outcome::Same);
        }
        AtomicFile::with_mode(path, mode).write(content)?;
        Ok(Outcome::Changed)
    }

    /// Makes a symbolic link durably, over whatever file has its name.
    pub fn link(&mut self, target: &Path, path: &Path) -> Result<Outcome> {
        let path = &absolute(path)?;
        self.prepare(path)?;
        if fs::read_link(path).is_ok_and(|found| found == target) {
            return Ok(Outcome::Same);
        }
        let mut temporary = OsString::from(path);
        temporary.push(".temporary");
        drop(fs::remove_file(&temporary));
        symlink(target, &temporary).map_err(Error::file("make the link", path))?;
        fs::rename(&temporary, path).map_err(Error::file("make the link", path))?;
        sync_folder(path.parent().unwrap_or(path))?;
        Ok(Outcome::Changed)
    }

    /// Writes down what another program is about to make.
    pub fn record(&mut self, path: &Path) -> Result<()> {
        let entry = Made::File(absolute(path)?);
        if !self.made.contains(&entry) {
            self.made.push(entry);
            self.save()?;
        }
        Ok(())
    }

    /// Adds the words to the kernel's command line and remembers them.
    pub fn add_boot_words(&mut self, words: BootWords) -> Result<()> {
        match &mut self.boot_words {
            Some(known) => {
                let new = words
                    .words
                    .iter()
                    .filter(|word| !known.words.contains(word));
                let new: Vec<String> = new.cloned().collect();
                known.words.extend(new);
            }
            None => self.boot_words = Some(words.clone()),
        }
        self.save()?;
        words.add()
    }

    fn prepare(&mut self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(path);
        let missing = missing_folders(folder);
        self.made.extend(missing.into_iter().map(Made::Folder));
        self.record(path)?;
        make_folders(folder)?;
        Ok(())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.records
            .join(format!("{}.{RECORD_ENDING}", self.service))
    }

    pub(crate) fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a record can be written as JSON");
        Ok(AtomicFile::private(self.path()).write(&text)?)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::file("find", path))
}

/// The outermost first.
fn missing_folders(folder: &Path) -> Vec<PathBuf> {
    let missing = folder.ancestors().take_while(|path| !path.exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

fn make_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let missing = missing_folders(folder);
    for path in &missing {
        fs::create_dir(path).map_err(Error::file("make the folder", path))?;
        sync_folder(path.parent().unwrap_or(path))?;
    }
    Ok(missing)
}

pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let opened = File::open(folder).map_err(Error::file("open", folder))?;
    opened.sync_all().map_err(Error::file("fsync", folder))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn begun(root: &Path, service: &str) -> Installation {
        let installation = Installation {
            service: service.to_owned(),
            init: Init::Systemd,
            role: Role::Server,
            arguments: vec!["server".to_owned()],
            environment: root.join("env"),
            made: Vec::new(),
            boot_words: None,
            records: root.join("etc/combo/install"),
        };
        installation.start().unwrap()
    }

    #[test]
    fn a_file_is_written_once_and_recorded_with_the_folders_made_for_it() {
        let root = tempfile::tempdir().unwrap();
        let mut installation = begun(root.path(), "combo");
        let path = root.path().join("opt/bin/combo");
        assert_eq!(
            installation.put(b"one", &path, 0o755).unwrap(),
            Outcome::Changed
        );
        assert_eq!(
            installation.put(b"one", &path, 0o755).unwrap(),
            Outcome::Same
        );
        assert_eq!(
            installation.put(b"one", &path, 0o700).unwrap(),
            Outcome::Changed
        );
        assert_eq!(
            installation.put(b"two", &path, 0o700).unwrap(),
            Outcome::Changed
        );
        let read = read_all(&installation.records).unwrap();
        assert_eq!(read, [installation.clone()]);
        let folders = ["etc", "etc/combo", "etc/combo/install", "opt", "opt/bin"];
        let mut expected: Vec<Made> = folders
            .map(|name| Made::Folder(root.path().join(name)))
            .to_vec();
        expected.push(Made::File(path));
        assert_eq!(installation.made, expected);
    }

    #[test]
    fn a_name_that_leaves_the_folder_of_records_is_refused() {
        for name in ["", "../x", "a/b", ".hidden", "a b"] {
            let root = tempfile::tempdir().unwrap();
            let mut installation = begun(root.path(), "good");
            installation.service = name.to_owned();
            assert!(
                matches!(installation.start(), Err(Error::Refused(_))),
                "{name:?}"
            );
        }
    }
}
