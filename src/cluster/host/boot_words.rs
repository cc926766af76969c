//! Words on the kernel's command line that switch the memory controller on. Raspberry Pi OS has it
//! off.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use linux::AtomicFile;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the firmware of a Raspberry Pi reads the line, newest layout first.
const FILES: &[&str] = &["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"];
const WORDS: &[&str] = &["cgroup_memory=1", "cgroup_enable=memory"];
const BACKUP_ENDING: &str = ".before-combo";
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The file that holds the command line of the next boot.
#[derive(Clone, Debug)]
pub struct BootFile(PathBuf);

/// What was added to a command line, so that it can be taken out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootWords {
    pub file: PathBuf,
    pub backup: PathBuf,
    pub words: Vec<String>,
}

impl BootFile {
    /// That of this machine, if it has one of a Raspberry Pi.
    pub fn find() -> Option<Self> {
        let found = FILES.iter().map(Path::new).find(|path| path.is_file());
        found.map(Self::at)
    }

    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// What would be added; `None` if the line has it all.
    pub fn missing(&self) -> Result<Option<BootWords>> {
        let words = missing_words(&self.read()?);
        if words.is_empty() {
            return Ok(None);
        }
        let mut backup = self.0.clone().into_os_string();
        backup.push(BACKUP_ENDING);
        Ok(Some(BootWords {
            file: self.0.clone(),
            backup: backup.into(),
            words,
        }))
    }

    fn read(&self) -> Result<String> {
        let size_bytes = fs::metadata(&self.0)
            .map_err(Error::file("look at", &self.0))?
            .len();
        if size_bytes > FILE_BYTES_MAX {
            return Err(Error::Refused(format!(
                "{} has {size_bytes} bytes: that is no kernel command line",
                self.0.display()
            )));
        }
        fs::read_to_string(&self.0).map_err(Error::file("read", &self.0))
    }
}

impl BootWords {
    /// Adds the words. The first backup is kept: it is the line from before.
    pub fn add(&self) -> Result<()> {
        let file = BootFile::at(&self.file);
        let line = file.read()?;
        if !self.backup.exists() {
            self.write(&self.backup, &line)?;
        }
        self.write(&self.file, &with_words(&line, &self.words))
    }

    /// Takes out what was added, and the backup.
    pub fn take_out(&self) -> Result<()> {
        let line = BootFile::at(&self.file).read()?;
        let before = fs::read_to_string(&self.backup).ok();
        let without = without_words(&line, &self.words);
        // The same words: then also the same spaces and line end.
        let line = match before {
            Some(before) if before.split_whitespace().eq(without.split_whitespace()) => before,
            _ => without,
        };
        self.write(&self.file, &line)?;
        match fs::remove_file(&self.backup) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::file("remove", &self.backup)),
        }
    }

    /// The firmware's filesystem knows one mode for all files, and refuses every other.
    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let metadata = fs::metadata(&self.file).map_err(Error::file("look at", &self.file))?;
        Ok(AtomicFile::with_mode(path, metadata.mode() & 0o777).write(text.as_bytes())?)
    }
}

fn missing_words(line: &str) -> Vec<String> {
    let has = |word: &str| line.split_whitespace().any(|found| found == word);
    let missing = WORDS.iter().filter(|word| !has(word));
    missing.map(|word| (*word).to_owned()).collect()
}

/// The firmware reads the first line alone. A word that switches the controller off would win over
/// ours.
fn with_words(text: &str, words: &[String]) -> String {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let kept = line
        .split_whitespace()
        .filter(|word| *word != "cgroup_disable=memory");
    let all: Vec<&str> = kept.chain(words.iter().map(String::as_str)).collect();
    format!("{}\n{rest}", all.join(" "))
}

fn without_words(text: &str, words: &[String]) -> String {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let kept: Vec<&str> = line
        .split_whitespace()
        .filter(|word| !words.iter().any(|ours| ours == word))
        .collect();
    format!("{}\n{rest}", kept.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "console=serial0,115200 root=PARTUUID=1-02  rootwait cgroup_enable=cpuset\n";

    #[test]
    fn words_are_added_once_with_one_backup_and_taken_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cmdline.txt");
        fs::write(&path, LINE).unwrap();
        let file = BootFile::at(&path);
        let words = file.missing().unwrap().expect("both are missing");
        words.add().unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "console=serial0,115200 root=PARTUUID=1-02 rootwait cgroup_enable=cpuset cgroup_memory=1 cgroup_enable=memory\n"
        );
        assert_eq!(file.missing().unwrap(), None);
        assert_eq!(fs::read_to_string(&words.backup).unwrap(), LINE);
        words.take_out().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), LINE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_person_added_since_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cmdline.txt");
        fs::write(&path, "quiet cgroup_enable=memory").unwrap();
        let words = BootFile::at(&path)
            .missing()
            .unwrap()
            .expect("one is missing");
        words.add().unwrap();
        let line = fs::read_to_string(&path).unwrap().replace("quiet", "loud");
        fs::write(&path, line).unwrap();
        words.take_out().unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "loud cgroup_enable=memory\n"
        );
    }
}
