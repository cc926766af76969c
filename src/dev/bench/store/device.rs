//! What reaches the disk: a flush as the disk does it, and the bytes of a server on a file system of its own.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// A page with its header, as the log of our store gets it.
const FLUSHED_BYTES: usize = 4096 + 24;
const FLUSHED_FILE_BYTES: usize = 8 << 20;
const FLUSHES: usize = 1000;
const DISK_BYTES: u64 = 512 << 20;
const SECTOR_BYTES: u64 = 512;

/// The times of writing a page into a file that is long enough, and flushing it.
pub(crate) fn flushes(folder: &Path) -> anyhow::Result<Vec<Duration>> {
    let file = File::create(folder.join("flushed"))?;
    file.write_all_at(&vec![b'x'; FLUSHED_FILE_BYTES], 0)?;
    file.sync_all()?;
    let page = [b'y'; FLUSHED_BYTES];
    let mut times = Vec::new();
    for number in 0..FLUSHES {
        let begun = Instant::now();
        let at = number * FLUSHED_BYTES % (FLUSHED_FILE_BYTES - FLUSHED_BYTES);
        file.write_all_at(&page, at as u64)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// An ext4 of its own on a loop device, whose writes nobody else's are among.
pub(crate) struct OwnDisk {
    pub(crate) folder: PathBuf,
    device: String,
}

/// What a device was sent so far.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    pub(crate) flushes: u64,
}

impl OwnDisk {
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let (image, mounted) = (folder.join("image"), folder.join("disk"));
        File::create(&image)?.set_len(DISK_BYTES)?;
        fs::create_dir_all(&mounted)?;
        command(
            "mkfs.ext4",
            &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            &[&image],
        )?;
        command("mount", &["-o", "loop"], &[&image, &mounted])?;
        let mut disk = Self {
            folder: mounted,
            device: String::new(),
        };
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let of_ours = |line: &&str| line.split(' ').nth(1) == disk.folder.to_str();
        let line = mounts
            .lines()
            .find(of_ours)
            .context("the disk is not mounted")?;
        let name = line
            .split(' ')
            .next()
            .and_then(|device| device.rsplit('/').next());
        disk.device = name.unwrap_or_default().to_owned();
        Ok(disk)
    }

    pub(crate) fn sent(&self) -> anyhow::Result<Sent> {
        let path = format!("/sys/block/{}/stat", self.device);
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        // The kernel's Documentation/block/stat.rst: the 7th is sectors written, the 16th flushes.
        ensure!(numbers.len() >= 16, "{path} has no count of flushes");
        Ok(Sent {
            bytes: numbers[6] * SECTOR_BYTES,
            flushes: numbers[15],
        })
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        let _best_effort = command("umount", &[], &[&self.folder]);
    }
}

fn command(program: &str, flags: &[&str], paths: &[&Path]) -> anyhow::Result<()> {
    let done = Command::new(program)
        .args(flags)
        .args(paths)
        .output()
        .with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program}: {said}");
    Ok(())
}
