//! A file system of one file, which is a disk: the kernel asks over /dev/fuse, and a loop device on that file makes of it what ext4 can be on.
//!
//! Only what a loop device asks of a file is answered; the numbers are those of the kernel's `fuse.h`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use parking_lot::Mutex;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::disk::Disk;

/// The name of the file.
const NAME: &str = "disk";
const ROOT: u64 = 1;
const FILE: u64 = 2;
const WRITE_BYTES_MAX: usize = 1 << 20;
const REQUEST_HEADER_BYTES: usize = 40;
const MAJOR: u32 = 7;
const MINOR: u32 = 31;
const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;
/// Names and sizes never change.
const VALID_SECONDS: u64 = 3600;
const DIRECTORY_MODE: u32 = 0o40_755;
const FILE_MODE: u32 = 0o100_600;

mod ask {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
}

pub(crate) type Shared<A> = Arc<Mutex<Disk<A>>>;

/// The mounted file; dropping it unmounts.
pub(crate) struct Mounted {
    folder: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Mounted {
    pub(crate) fn new<A: Send + 'static>(folder: &Path, disk: Shared<A>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.context("open /dev/fuse: the kernel needs CONFIG_FUSE_FS")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let options = CString::new(options)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount(
            "power-loss",
            folder,
            "fuse",
            flags,
            Some(options.as_c_str()),
        )
        .context("mount a file system of FUSE; it needs root")?;
        let thread = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || answer_all(device, &disk))?;
        Ok(Self {
            folder: folder.to_owned(),
            thread: Some(thread),
        })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(NAME)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _best_effort = unmount(&self.folder, UnmountFlags::DETACH);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Answers until the file system is unmounted.
fn answer_all<A>(mut device: File, disk: &Mutex<Disk<A>>) {
    let mut request = vec![0; WRITE_BYTES_MAX + 4096];
    loop {
        match device.read(&mut request) {
            Ok(length) => {
                if let Some(answer) = answer(&request[..length], disk) {
                    // An error: whoever asked was interrupted and is gone.
                    let _gone = device.write_all(&answer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_unmounted) => return,
        }
    }
}

fn answer<A>(request: &[u8], disk: &Mutex<Disk<A>>) -> Option<Vec<u8>> {
    let (operation, unique) = (number32(request, 4), number64(request, 8));
    let (node, body) = (number64(request, 16), &request[REQUEST_HEADER_BYTES..]);
    let done = match operation {
        ask::FORGET | ask::BATCH_FORGET | ask::INTERRUPT => return None,
        ask::INIT => Ok(init()),
        ask::LOOKUP => look_up(body, disk),
        ask::GETATTR => Ok([
            &VALID_SECONDS.to_le_bytes()[..],
            &[0; 8],
            &attributes(node, disk),
        ]
        .concat()),
        ask::OPEN => Ok(vec![0; 16]),
        ask::READ => {
            let (at, size) = (place(body), number32(body, 16) as usize);
            Ok(disk.lock().read(at, size))
        }
        ask::WRITE => {
            let size = number32(body, 16);
            let data = &body[40..40 + size as usize];
            let fits = disk.lock().write(place(body), data);
            let written = [size.to_le_bytes(), [0; 4]].concat();
            fits.then_some(written).ok_or(rustix::io::Errno::NOSPC)
        }
        ask::FSYNC => {
            disk.lock().flush();
            Ok(Vec::new())
        }
        ask::RELEASE | ask::FLUSH | ask::DESTROY => Ok(Vec::new()),
        _ => Err(rustix::io::Errno::NOSYS),
    };
    let (error, data) = match done {
        Ok(data) => (0, data),
        Err(error) => (-error.raw_os_error(), Vec::new()),
    };
    let length = u32::try_from(16 + data.len()).expect("answers are small");
    let header = [
        &length.to_le_bytes()[..],
        &error.to_le_bytes(),
        &unique.to_le_bytes(),
    ];
    Some([header.concat(), data].concat())
}

fn init() -> Vec<u8> {
    let write_bytes = u32::try_from(WRITE_BYTES_MAX).expect("it is small");
    let pages = u16::try_from(WRITE_BYTES_MAX / 4096).expect("it is small");
    let mut answer = Vec::new();
    for number in [MAJOR, MINOR, 0, BIG_WRITES | MAX_PAGES] {
        answer.extend(number.to_le_bytes());
    }
    // Requests in the background: as many as the kernel likes.
    answer.extend([0; 4]);
    answer.extend(write_bytes.to_le_bytes());
    answer.extend(1u32.to_le_bytes());
    answer.extend(pages.to_le_bytes());
    answer.resize(64, 0);
    answer
}

fn look_up<A>(body: &[u8], disk: &Mutex<Disk<A>>) -> Result<Vec<u8>, rustix::io::Errno> {
    let name = body.split(|byte| *byte == 0).next().unwrap_or_default();
    if name != NAME.as_bytes() {
        return Err(rustix::io::Errno::NOENT);
    }
    let mut answer = Vec::new();
    for number in [FILE, 0, VALID_SECONDS, VALID_SECONDS, 0] {
        answer.extend(number.to_le_bytes());
    }
    answer.extend(attributes(FILE, disk));
    Ok(answer)
}

fn attributes<A>(node: u64, disk: &Mutex<Disk<A>>) -> Vec<u8> {
    let (mode, size) = if node == ROOT {
        (DIRECTORY_MODE, 0)
    } else {
        (FILE_MODE, disk.lock().len() as u64)
    };
    let mut answer = Vec::new();
    for number in [node, size, size / 512, 0, 0, 0] {
        answer.extend(number.to_le_bytes());
    }
    for number in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0u32] {
        answer.extend(number.to_le_bytes());
    }
    answer
}

/// Where a read or a write begins.
fn place(body: &[u8]) -> usize {
    usize::try_from(number64(body, 8)).unwrap_or(usize::MAX)
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
