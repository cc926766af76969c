//! Taking an installation off a machine: what its record names goes, what others need stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::installation::{Init, Installation, Made, read_all, sync_folder};
use crate::settings::ServiceSettings;

/// Folders that no data folder is, whatever somebody configured.
const NEVER_REMOVED: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/tmp",
];
/// One of these is in every data folder.
const MARKS: &[&str] = &["agent", "server"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalStep {
    Removed(PathBuf),
    /// The words on the kernel's command line are out of this file again.
    BootWords(PathBuf),
    Kept {
        path: PathBuf,
        why: &'static str,
    },
}

impl Installation {
    /// Stops the service; its pods run on. Tells what the init system said if it could not.
    pub fn stop(&self) -> std::result::Result<(), String> {
        match self.init {
            Init::Systemd => run("systemctl", &["stop", &self.service]),
            Init::Openrc => run("rc-service", &["--ifstarted", &self.service, "stop"]),
        }
    }

    /// Stops the service and keeps it from starting again.
    pub fn disable(&self) -> std::result::Result<(), String> {
        let disabled = match self.init {
            Init::Systemd => run("systemctl", &["disable", &self.service]),
            Init::Openrc => run("rc-update", &["--all", "del", &self.service]),
        };
        self.stop().and(disabled)
    }
}

fn run(program: &str, arguments: &[&str]) -> std::result::Result<(), String> {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Removes everything that the installation made, its kubeconfig, and its record. The service is
/// stopped already.
pub fn remove(installation: &Installation) -> Result<Vec<RemovalStep>> {
    let settings = ServiceSettings::of(installation);
    let mut others = read_all(&installation.records)?;
    others.retain(|other| other.service != installation.service);
    let mut steps = Vec::new();
    if let Some(words) = &installation.boot_words
        && others.iter().all(|other| other.boot_words.is_none())
    {
        words.take_out()?;
        steps.push(RemovalStep::BootWords(words.file.clone()));
    }
    if others
        .iter()
        .all(|other| ServiceSettings::of(other).kubeconfig != settings.kubeconfig)
    {
        steps.extend(remove_file(&settings.kubeconfig)?);
    }
    let (files, folders) = split(&installation.made);
    for path in files {
        if others
            .iter()
            .any(|other| other.made.contains(&Made::File(path.clone())))
        {
            let why = "another service uses it";
            steps.push(RemovalStep::Kept { path, why });
        } else {
            steps.extend(remove_file(&path)?);
        }
    }
    steps.extend(remove_file(&installation.path())?);
    match others.first_mut() {
        Some(heir) => hand_over(heir, folders)?,
        None => steps.extend(remove_folders(installation, folders)?),
    }
    if installation.init == Init::Systemd {
        // Without systemd there is nothing to forget.
        drop(run("systemctl", &["daemon-reload"]));
        drop(run("systemctl", &["reset-failed", &installation.service]));
    }
    Ok(steps)
}

fn split(made: &[Made]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in made {
        match entry {
            Made::File(path) => files.push(path.clone()),
            Made::Folder(path) => folders.push(path.clone()),
        }
    }
    folders.sort();
    folders.dedup();
    (files, folders)
}

/// Folders that were made for us hold files of another service too: it removes them when it goes.
fn hand_over(heir: &mut Installation, folders: Vec<PathBuf>) -> Result<()> {
    for folder in folders {
        let entry = Made::Folder(folder);
        if !heir.made.contains(&entry) {
            heir.made.push(entry);
        }
    }
    heir.save()
}

/// The innermost first. The folder of the configuration goes with what was put into it, if it was
/// not there before.
fn remove_folders(installation: &Installation, folders: Vec<PathBuf>) -> Result<Vec<RemovalStep>> {
    let own = installation.records.parent();
    let mut steps = Vec::new();
    // Of an earlier installation that was removed by hand.
    drop(fs::remove_dir(&installation.records));
    for folder in folders.into_iter().rev() {
        let removed = if own == Some(folder.as_path()) {
            fs::remove_dir_all(&folder)
        } else {
            fs::remove_dir(&folder)
        };
        match removed {
            Ok(()) => steps.push(RemovalStep::Removed(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                let why = "others put something into it";
                steps.push(RemovalStep::Kept { path: folder, why });
            }
            Err(source) => return Err(Error::file("remove", &folder)(source)),
        }
    }
    if let Some(own) = own.filter(|own| own.exists()) {
        let why = "it was there before the installation";
        steps.push(RemovalStep::Kept {
            path: own.to_owned(),
            why,
        });
    }
    Ok(steps)
}

fn remove_file(path: &Path) -> Result<Option<RemovalStep>> {
    match fs::remove_file(path) {
        Ok(()) => {
            sync_folder(path.parent().unwrap_or(path))?;
            Ok(Some(RemovalStep::Removed(path.to_owned())))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(source) => Err(Error::file("remove", path)(source)),
    }
}

/// Removes a data folder with all that is in it. Its pods are ended and nothing is mounted below it
/// any more.
pub fn remove_data(data_dir: &Path) -> Result<Option<RemovalStep>> {
    let Ok(folder) = data_dir.canonicalize() else {
        return Ok(None);
    };
    let refuse = |why: &str| {
        let folder = folder.display();
        Err(Error::Refused(format!("{folder} is not removed: {why}")))
    };
    if NEVER_REMOVED.iter().any(|never| folder == Path::new(never)) {
        return refuse("it is a folder of the system");
    }
    let is_empty = fs::read_dir(&folder)
        .map_err(Error::file("list", &folder))?
        .next()
        .is_none();
    if !is_empty && !MARKS.iter().any(|mark| folder.join(mark).is_dir()) {
        return refuse("it holds no data of Combo");
    }
    let table = linux::mounts::table()?;
    let mounted = table.iter().map(|entry| &entry.mount_point);
    if let Some(mount) = mounted
        .clone()
        .find(|mount| **mount != folder && mount.starts_with(&folder))
    {
        return refuse(&format!("{} is mounted in it", mount.display()));
    }
    if mounted.clone().any(|mount| *mount == folder) {
        let entries = fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(Error::file("remove", &path))?;
        }
        let why = "it is a mount; it is empty now";
        return Ok(Some(RemovalStep::Kept { path: folder, why }));
    }
    fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    Ok(Some(RemovalStep::Removed(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installation::tests::begun;

    fn tree(folder: &Path) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                all.extend(tree(&entry.path()));
            }
            all.push(entry.path());
        }
        all.sort();
        all
    }

    #[test]
    fn after_a_removal_every_file_and_folder_is_as_before() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/other"), "").unwrap();
        let before = tree(root);
        let mut installation = begun(root, "combo");
        installation
            .put(b"x", &root.join("usr/bin/combo"), 0o755)
            .unwrap();
        installation
            .link(Path::new("combo"), &root.join("usr/bin/kubectl"))
            .unwrap();
        installation
            .put(b"x", &root.join("etc/systemd/system/combo.service"), 0o644)
            .unwrap();
        installation
            .record(&root.join("etc/systemd/system/never-made"))
            .unwrap();
        fs::write(root.join("etc/combo/config.yaml"), "node-name: a\n").unwrap();
        remove(&installation).unwrap();
        assert_eq!(tree(root), before);
    }

    #[test]
    fn what_another_service_uses_goes_with_the_last() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let binary = root.join("bin/combo");
        let mut first = begun(root, "combo");
        first.put(b"x", &binary, 0o755).unwrap();
        let mut second = begun(root, "combo-2");
        second.put(b"x", &binary, 0o755).unwrap();
        let why = "another service uses it";
        let kept = RemovalStep::Kept {
            path: binary.clone(),
            why,
        };
        assert!(remove(&first).unwrap().contains(&kept));
        assert!(binary.exists());
        let second = read_all(&second.records).unwrap().remove(0);
        remove(&second).unwrap();
        assert_eq!(tree(root), Vec::<PathBuf>::new());
    }

    #[test]
    fn only_a_data_folder_is_removed_as_one() {
        let root = tempfile::tempdir().unwrap();
        let photos = root.path().join("photos");
        fs::create_dir_all(photos.join("2026")).unwrap();
        for path in [photos.as_path(), Path::new("/"), Path::new("/usr/../etc")] {
            assert!(
                matches!(remove_data(path), Err(Error::Refused(_))),
                "{path:?}"
            );
        }
        fs::create_dir(photos.join("server")).unwrap();
        assert!(matches!(
            remove_data(&photos),
            Ok(Some(RemovalStep::Removed(_)))
        ));
        assert!(matches!(remove_data(&photos), Ok(None)));
    }
}
