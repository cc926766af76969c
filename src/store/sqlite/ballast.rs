//! A file that is worth nothing but its space: given up when the disk is full, so that what makes room (deletes, compaction, checkpoints) can still
//! be written; taken again once there is room for it and a little more, which is how the store notices that the disk is not full any more.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// What a store keeps: as much as the log is long before it begins anew, because that is what moving it into the database may need.
pub const BALLAST_BYTES: u64 = 16 << 20;
/// On a small disk it is half of that, or half of half, down to this.
const BYTES_MIN: u64 = 1 << 20;
/// What has to be free beside the ballast before the store counts on the disk again.
const ROOM_BYTES: u64 = 1 << 20;
const ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    /// As large as it was when there was room; 0: there never was.
    bytes: u64,
    is_held: bool,
}

impl Ballast {
    /// Beside the database at `path`, as large as `bytes` or as the disk allows; 0: there is none.
    pub(crate) fn open(path: &Path, bytes: u64) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".ballast");
        let mut ballast = Self {
            path: PathBuf::from(name),
            bytes,
            is_held: false,
        };
        if bytes == 0 {
            return ballast;
        }
        let found = fs::metadata(&ballast.path).map_or(0, |file| file.len());
        if found == bytes {
            ballast.is_held = true;
            return ballast;
        }
        while !ballast.hold() {
            ballast.bytes /= 2;
            if ballast.bytes < BYTES_MIN {
                ballast.bytes = 0;
                tracing::warn!(
                    "the disk has no room for the store's ballast: once it is full, not even deletes can be written"
                );
                break;
            }
        }
        ballast
    }

    /// Gives the space up, and tells whether there was some.
    pub(crate) fn release(&mut self) -> bool {
        std::mem::take(&mut self.is_held) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the space again, and tells whether the disk has it, and some more.
    pub(crate) fn hold(&mut self) -> bool {
        if self.is_held {
            return true;
        }
        match self.fill() {
            Ok(()) => self.is_held = self.bytes > 0,
            Err(error) => {
                tracing::debug!(%error, bytes = self.bytes, "there is no room for the store's ballast");
                // A part of it only takes space.
                let _gone = fs::remove_file(&self.path);
                return false;
            }
        }
        true
    }

    fn fill(&self) -> io::Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes + ROOM_BYTES) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&file, self.bytes + ROOM_BYTES)?,
            Err(error) => return Err(error.into()),
        }
        if self.bytes == 0 {
            // Without ballast, it was only a question.
            return fs::remove_file(&self.path);
        }
        file.set_len(self.bytes)?;
        file.sync_all()
    }
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
