//! ext4 on a disk that is a file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// A file system is let go by whoever used it last within this many looks, a while apart.
const LOOKS_MAX: u32 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A mounted ext4; [`Ext4::unmount`] ends it well.
pub(crate) struct Ext4 {
    folder: PathBuf,
}

impl Ext4 {
    /// Mounts what is on the disk; whatever its journal holds is brought in first.
    pub(crate) fn mount(disk: &Path, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let device = run(
            "losetup",
            [
                OsStr::new("--direct-io=on"),
                "-f".as_ref(),
                "--show".as_ref(),
                disk.as_ref(),
            ],
        )?;
        let device = device.trim();
        let mounted = run(
            "mount",
            [
                "-t".as_ref(),
                "ext4".as_ref(),
                "-o".as_ref(),
                "noatime,barrier=1".as_ref(),
                OsStr::new(device),
                folder.as_ref(),
            ],
        );
        // The device goes with its last user.
        run("losetup", [OsStr::new("-d"), device.as_ref()])?;
        mounted?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    pub(crate) async fn unmount(self) -> anyhow::Result<()> {
        let mut looks = 0;
        while let Err(error) = run("umount", [&self.folder]) {
            looks += 1;
            if looks > LOOKS_MAX {
                return Err(error);
            }
            env::sleep(LOOK_EVERY).await;
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _best_effort = run("umount", [OsStr::new("-l"), self.folder.as_ref()]);
    }
}

/// An empty ext4 of so many bytes.
pub(crate) fn empty(folder: &Path, bytes: u64) -> anyhow::Result<Vec<u8>> {
    let image = folder.join("image");
    std::fs::File::create(&image)?.set_len(bytes)?;
    run(
        "mkfs.ext4",
        [
            "-q".as_ref(),
            "-b".as_ref(),
            "4096".as_ref(),
            "-E".as_ref(),
            OsStr::new("lazy_itable_init=0,lazy_journal_init=0"),
            image.as_ref(),
        ],
    )?;
    let contents = std::fs::read(&image)?;
    std::fs::remove_file(image)?;
    Ok(contents)
}

fn run<W: AsRef<OsStr>>(
    program: &str,
    words: impl IntoIterator<Item = W>,
) -> anyhow::Result<String> {
    let done = Command::new(program).args(words).output();
    let done = done.with_context(|| format!("run {program}"))?;
    if !done.status.success() {
        bail!(
            "{program}: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
