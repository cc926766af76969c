//! `hostPath`: a file or directory of the node, checked for what the pod expects it to be.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume};

use crate::error::{Error, Result, blocking};
use crate::plugin::{MountedVolume, Request, VolumePlugin};

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

pub(crate) struct HostPath;

#[async_trait]
impl VolumePlugin for HostPath {
    fn name(&self) -> &'static str {
        "kubernetes.io~host-path"
    }

    fn takes(&self, volume: &Volume) -> bool {
        volume.host_path.is_some()
    }

    async fn set_up(&self, request: &Request<'_>) -> Result<MountedVolume> {
        let source = request.volume.host_path.clone().unwrap_or_default();
        blocking(move || prepare(&source)).await
    }
}

pub(crate) fn prepare(source: &HostPathVolumeSource) -> Result<MountedVolume> {
    let path = PathBuf::from(&source.path);
    if !path.is_absolute()
        || path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
    {
        return Err(Error::Invalid(format!(
            "invalid HostPath `{}`: must be absolute and without '..'",
            source.path
        )));
    }
    check(&path, source.type_.as_deref().unwrap_or_default())?;
    Ok(MountedVolume {
        host_path: path,
        read_only: false,
        idmap: true,
    })
}

fn check(path: &Path, expected: &str) -> Result<()> {
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let is = |fits: fn(&fs::FileType) -> bool, what: &str| match &found {
        Some(found) if fits(found) => Ok(()),
        _ => Err(Error::Invalid(format!(
            "hostPath type check failed: {} is not a {what}",
            path.display()
        ))),
    };
    match (expected, found) {
        // Without a type nothing is checked, and other runtimes make a directory of a path that is missing.
        ("", Some(_)) => Ok(()),
        ("" | "DirectoryOrCreate", None) => make_directory(path),
        ("FileOrCreate", None) => make_file(path),
        ("Directory" | "DirectoryOrCreate", _) => is(fs::FileType::is_dir, "directory"),
        ("File" | "FileOrCreate", _) => is(fs::FileType::is_file, "file"),
        ("Socket", _) => is(FileTypeExt::is_socket, "socket file"),
        ("CharDevice", _) => is(FileTypeExt::is_char_device, "character device"),
        ("BlockDevice", _) => is(FileTypeExt::is_block_device, "block device"),
        (other, _) => Err(Error::Invalid(format!("{other} is an invalid volume type"))),
    }
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("make directory", path))?;
    set_mode(path, DIRECTORY_MODE)
}

/// Directories above it are not made: the pod named a file.
fn make_file(path: &Path) -> Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    file.map(drop).map_err(Error::io("make", path))?;
    set_mode(path, FILE_MODE)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(Error::io("set the mode of", path))
}
