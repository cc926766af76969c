//! A file that is worth nothing but its space: given up when the disk is full, so that what makes room (deletes, compaction, checkpoints) can still
//! be written, and taken again once somebody made room.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// What a store keeps: as much as the log is long before it begins anew, because that is what moving it into the database may need.
pub const BALLAST_BYTES: u64 = 16 << 20;
/// On a small disk it is half of that, or half of half, down to this.
const BYTES_MIN: u64 = 1 << 20;
/// What is left free beside it; and the space that somebody else has to give back before the store counts on the disk again.
const ROOM_BYTES: u64 = 1 << 20;
/// What `stat` counts in.
const BLOCK_BYTES: u64 = 512;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[derive(Debug)]
pub(crate) struct Ballast {
    database: PathBuf,
    /// 0: there is none.
    bytes_max: u64,
    is_held: bool,
    /// While the disk is full: the space that the store has or could have, at its least.
    reach: Option<u64>,
}

impl Ballast {
    /// Beside the database at `path`, as large as `bytes_max` or as the disk allows; 0: there is none.
    pub(crate) fn open(path: &Path, bytes_max: u64) -> Self {
        let mut ballast = Self {
            database: path.to_owned(),
            bytes_max,
            is_held: false,
            reach: None,
        };
        ballast.hold();
        if bytes_max > 0 && !ballast.is_held {
            tracing::warn!(
                "the disk has no room for the store's ballast: once it is full, not even deletes can be written"
            );
        }
        ballast
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        self.reach.is_some()
    }

    /// The disk is full: gives the space up, and tells whether there was some.
    pub(crate) fn release(&mut self) -> bool {
        let gave =
            std::mem::take(&mut self.is_held) && fs::remove_file(self.beside(".ballast")).is_ok();
        self.reach = Some(self.reach());
        gave
    }

    /// Whether somebody gave space back since the disk was full. The store's own files may have grown meanwhile, which says nothing.
    pub(crate) fn has_room_again(&mut self) -> bool {
        let Some(least) = self.reach else { return true };
        let reach = self.reach();
        if reach < least.saturating_add(ROOM_BYTES) {
            self.reach = Some(least.min(reach));
            return false;
        }
        self.reach = None;
        self.hold();
        true
    }

    /// What is free, and what the store has.
    fn reach(&self) -> u64 {
        let folder = self.database.parent().unwrap_or(Path::new("/"));
        // A disk that does not tell may have room.
        let Ok(disk) = statvfs(folder) else {
            return u64::MAX;
        };
        let own = ["", "-wal", "-shm"].map(|part| fs::metadata(self.beside(part)));
        let own = own.into_iter().flatten();
        let own = own.map(|file| file.blocks() * BLOCK_BYTES).sum::<u64>();
        disk.f_bavail * disk.f_frsize + own
    }

    fn beside(&self, part: &str) -> PathBuf {
        let mut name = self.database.as_os_str().to_owned();
        name.push(part);
        name.into()
    }

    /// Takes as much as there is room for.
    fn hold(&mut self) {
        let path = self.beside(".ballast");
        let mut bytes = self.bytes_max;
        if bytes == 0 {
            return;
        }
        if fs::metadata(&path).is_ok_and(|file| file.len() == bytes) {
            self.is_held = true;
            return;
        }
        while bytes >= BYTES_MIN {
            match fill(&path, bytes) {
                Ok(()) => {
                    self.is_held = true;
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, bytes, "there is no room for so much ballast");
                    // A part of it only takes space.
                    let _gone = fs::remove_file(&path);
                    bytes /= 2;
                }
            }
        }
    }
}

fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes + ROOM_BYTES) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&file, bytes + ROOM_BYTES)?,
        Err(error) => return Err(error.into()),
    }
    file.set_len(bytes)?;
    file.sync_all()
}

fn write_zeros(mut file: &fs::File, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let part = ZEROS.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&ZEROS[..part])?;
        left -= part as u64;
    }
    file.sync_all()
}
