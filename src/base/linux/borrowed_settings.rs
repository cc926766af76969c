//! Kernel settings of a network namespace that are changed for a while: the values from before come
//! back with the last user.
//!
//! What was found lies under `/run`, which ends with the boot as the settings themselves do.
//! Several users may need one setting; nobody's leaving takes it from another. A setting that
//! somebody else changed meanwhile is his, and stays.

use crate::error::{Doing, Error, Result};
use crate::file_lock::FileLock;
use crate::{AtomicFile, sysctl};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything that this module keeps.
const ROOT: &str = "/run/combo/settings";
const RECORD: &str = "found";
const USERS: &str = "users";

/// A setting and the value it should have, or had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As below `/proc/sys`, with slashes.
    pub key: String,
    pub value: String,
}

impl Setting {
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Setting {
        Setting {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// The borrowed settings of one network namespace.
#[derive(Debug)]
pub struct BorrowedSettings {
    folder: PathBuf,
    /// A folder that always exists: nothing stays of a lock on it.
    locked: PathBuf,
}

/// One change: what was found, and what it was set to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    key: String,
    found: String,
    set: String,
}

impl BorrowedSettings {
    /// Those of the calling thread's namespace.
    pub fn of_this_namespace() -> Result<BorrowedSettings> {
        let path = "/proc/thread-self/ns/net";
        let namespace = fs::metadata(path).doing(|| format!("look at {path}"))?;
        Ok(BorrowedSettings {
            folder: Path::new(ROOT).join(namespace.ino().to_string()),
            locked: PathBuf::from("/run"),
        })
    }

    /// Gives `wanted` its value until `user` and all others gave it back. `followers` are settings
    /// that the kernel changes with it, and the values that it gives them. A setting that this
    /// kernel does not have is passed over.
    pub fn borrow(&self, user: &str, wanted: &Setting, followers: &[Setting]) -> Result<()> {
        let _lock = FileLock::wait_for_folder(&self.locked)?;
        let users = self.folder.join(USERS);
        fs::create_dir_all(&users).doing(|| format!("make {}", users.display()))?;
        let mark = users.join(user);
        fs::write(&mark, "").doing(|| format!("write {}", mark.display()))?;
        let Some(found) = value_of(&wanted.key)? else {
            return Ok(());
        };
        if found == wanted.value {
            return Ok(());
        }
        let mut changes = self.changes()?;
        let all = std::iter::once(wanted).chain(followers);
        for setting in all {
            let is_known = changes.iter().any(|change| change.key == setting.key);
            // A follower that has its value already loses it when the kernel follows back.
            if let Some(found) = value_of(&setting.key)?.filter(|_| !is_known) {
                changes.push(Change {
                    key: setting.key.clone(),
                    found,
                    set: setting.value.clone(),
                });
            }
        }
        // First the record: what is lost between the two is a change that was not made.
        self.write_changes(&changes)?;
        sysctl::write(&wanted.key, &wanted.value)
    }

    /// Takes `user` off; the last one brings the values back that were found. Returns them.
    pub fn give_back(&self, user: &str) -> Result<Vec<Setting>> {
        let _lock = FileLock::wait_for_folder(&self.locked)?;
        let mark = self.folder.join(USERS).join(user);
        match fs::remove_file(&mark) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.doing(|| format!("remove {}", mark.display()))?,
        }
        if fs::remove_dir(self.folder.join(USERS)).is_err() {
            return Ok(Vec::new());
        }
        let changes = self.changes()?;
        let restored = restore(&changes)?;
        fs::remove_dir_all(&self.folder).doing(|| format!("remove {}", self.folder.display()))?;
        // These hold for the other namespaces too, and go with the last.
        for parent in self.folder.ancestors().skip(1).take(2) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(restored)
    }

    fn changes(&self) -> Result<Vec<Change>> {
        let path = self.folder.join(RECORD);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.doing(|| format!("read {}", path.display()))?,
        };
        text.lines()
            .map(|line| {
                let fields: Vec<&str> = line.split('\t').collect();
                let [key, found, set] = fields[..] else {
                    let doing = format!("read {}", path.display());
                    return Err(Error::other(doing, format!("{line:?} is no setting")));
                };
                Ok(Change {
                    key: key.to_owned(),
                    found: found.to_owned(),
                    set: set.to_owned(),
                })
            })
            .collect()
    }

    fn write_changes(&self, changes: &[Change]) -> Result<()> {
        let line = |change: &Change| format!("{}\t{}\t{}\n", change.key, change.found, change.set);
        let lines: Vec<String> = changes.iter().map(line).collect();
        AtomicFile::private(self.folder.join(RECORD)).write(lines.concat().as_bytes())
    }
}

/// Whose value is ours is decided before anything is written: the first setting moves those that
/// follow it.
fn restore(changes: &[Change]) -> Result<Vec<Setting>> {
    let mut ours = Vec::new();
    for change in changes {
        if value_of(&change.key)?.is_some_and(|value| value == change.set) {
            ours.push(change);
        }
    }
    for change in &ours {
        if value_of(&change.key)?.is_some_and(|value| value != change.found) {
            sysctl::write(&change.key, &change.found)?;
        }
    }
    let settings = ours
        .iter()
        .map(|change| Setting::new(&change.key, &change.found));
    Ok(settings.collect())
}

/// `None`: this kernel does not have it, or the link that it belongs to is gone. A value with a tab
/// would break the record; the settings with several numbers are written with spaces.
fn value_of(key: &str) -> Result<Option<String>> {
    match sysctl::read(key) {
        Err(error) if error.is_not_found() => Ok(None),
        other => Ok(Some(other?.replace('\t', " "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkNamespace;

    const FORWARD: &str = "net/ipv4/ip_forward";
    const REDIRECTS: &str = "net/ipv4/conf/all/accept_redirects";

    fn read(key: &str) -> String {
        sysctl::read(key).unwrap()
    }

    fn in_a_namespace(work: impl FnOnce(&BorrowedSettings) + Send) {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let settings = BorrowedSettings {
            folder: folder.path().join("combo/settings/1"),
            locked: folder.path().to_owned(),
        };
        let namespace = NetworkNamespace::create().unwrap();
        namespace
            .run(|| {
                sysctl::write(FORWARD, "0").unwrap();
                sysctl::write(REDIRECTS, "0").unwrap();
                sysctl::write("net/ipv4/conf/lo/forwarding", "1").unwrap();
                work(&settings);
            })
            .unwrap();
    }

    fn borrow(settings: &BorrowedSettings, user: &str) {
        let followers = [
            Setting::new("net/ipv4/conf/all/forwarding", "1"),
            Setting::new("net/ipv4/conf/default/forwarding", "1"),
            Setting::new("net/ipv4/conf/lo/forwarding", "1"),
            Setting::new(REDIRECTS, "0"),
        ];
        settings
            .borrow(user, &Setting::new(FORWARD, "1"), &followers)
            .unwrap();
    }

    #[test]
    fn the_last_user_brings_back_what_was_found_also_what_follows() {
        in_a_namespace(|settings| {
            borrow(settings, "a");
            borrow(settings, "b");
            borrow(settings, "a");
            assert_eq!(read(FORWARD), "1");
            assert_eq!(settings.give_back("a").unwrap(), []);
            assert_eq!(read(FORWARD), "1");
            let restored = settings.give_back("b").unwrap();
            assert!(
                restored.contains(&Setting::new(FORWARD, "0")),
                "{restored:?}"
            );
            assert_eq!(read(FORWARD), "0");
            assert_eq!(read("net/ipv4/conf/default/forwarding"), "0");
            assert_eq!(read("net/ipv4/conf/lo/forwarding"), "1");
            assert_eq!(read(REDIRECTS), "0");
            assert!(!settings.folder.exists());
            assert_eq!(settings.give_back("b").unwrap(), []);
        });
    }

    #[test]
    fn what_somebody_else_changed_meanwhile_stays() {
        in_a_namespace(|settings| {
            let key = "net/ipv4/conf/lo/accept_source_route";
            sysctl::write(key, "0").unwrap();
            settings.borrow("a", &Setting::new(key, "1"), &[]).unwrap();
            sysctl::write(key, "0").unwrap();
            sysctl::write(key, "2").unwrap();
            assert_eq!(settings.give_back("a").unwrap(), []);
            assert_eq!(read(key), "2");
        });
    }
}
