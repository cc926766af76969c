//! Whether the write-ahead log still has every commit that was acknowledged. `SQLite` reads a log up to the first frame whose checksum does not match
//! and takes that for its end, so a flipped bit would silently take back whatever was committed behind it. The log's index (the file `-shm`) tells
//! better: it names a commit only once that is on stable storage, so what it names must be there. (After a power cut the index may be older, and says
//! less.)

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// What of a frame's header is under the checksum, and what of the log's.
const FRAME_HEADER_CHECKED: usize = 8;
const LOG_HEADER_CHECKED: usize = 24;
const INDEX_HEADER_BYTES: usize = 48;
const INDEX_HEADER_CHECKED: usize = 40;
/// Of the index: two copies of its header, and how many frames are in the database.
const INDEX_BYTES: usize = 2 * INDEX_HEADER_BYTES + 4;
/// The lowest bit says whether words are read with the highest byte first.
const LOG_MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// Everything that was acknowledged is in it, as far as one can tell.
    Whole,
    /// Not all of it can be read, but all of it is in the database.
    NotNeeded,
    /// Frames that were acknowledged, and those that can be read.
    Damaged { acknowledged: u32, readable: u32 },
}

/// Looks at the log of the database at `path`, which nobody has open.
pub(crate) fn check(path: &Path) -> io::Result<Log> {
    let Some(index) = Index::read(&beside(path, "-shm"))? else {
        return Ok(Log::Whole);
    };
    let mut file = match fs::File::open(beside(path, "-wal")) {
        // Whoever took the file away knows what he did.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Log::Whole),
        opened => opened?,
    };
    let Some(readable) = readable_frames(&mut file, &index)? else {
        return Ok(Log::Whole);
    };
    Ok(if readable >= index.frames {
        Log::Whole
    } else if index.moved >= index.frames {
        Log::NotNeeded
    } else {
        Log::Damaged {
            acknowledged: index.frames,
            readable,
        }
    })
}

/// Makes a log empty that is not needed.
pub(crate) fn empty(path: &Path) -> io::Result<()> {
    let log = fs::OpenOptions::new()
        .write(true)
        .open(beside(path, "-wal"))?;
    log.set_len(0)?;
    log.sync_all()
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What the log's index says of the newest commit.
#[derive(Debug)]
struct Index {
    frames: u32,
    /// Frames that are in the database, on stable storage.
    moved: u32,
    salts: [u8; 8],
}

impl Index {
    /// `None` if it says nothing that can be relied on.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut bytes = [0; INDEX_BYTES];
        match fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                return Ok(None);
            }
            read => read?,
        }
        let (first, rest) = bytes.split_at(INDEX_HEADER_BYTES);
        let (second, moved) = rest.split_at(INDEX_HEADER_BYTES);
        let (checked, sum) = first.split_at(INDEX_HEADER_CHECKED);
        // In the machine's own order.
        let word = |at: usize| u32::from_ne_bytes(first[at..at + 4].try_into().expect("4 bytes"));
        let expected = checksum((0, 0), checked, u32::from_ne_bytes);
        let is_good = first == second
            && sum[..4] == expected.0.to_ne_bytes()
            && sum[4..] == expected.1.to_ne_bytes();
        Ok(is_good.then(|| Self {
            frames: word(16),
            moved: u32::from_ne_bytes(moved.try_into().expect("4 bytes")),
            salts: first[32..40].try_into().expect("8 bytes"),
        }))
    }
}

/// How many of the frames that the index names can be read; `None` if the log began anew since.
fn readable_frames(file: &mut fs::File, index: &Index) -> io::Result<Option<u32>> {
    let mut header = [0; LOG_HEADER_BYTES];
    if !fill(file, &mut header)? {
        return Ok(Some(0));
    }
    let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let order = if word(0) & 1 == 1 {
        u32::from_be_bytes
    } else {
        u32::from_le_bytes
    };
    let mut sums = checksum((0, 0), &header[..LOG_HEADER_CHECKED], order);
    let is_good = word(0) & !1 == LOG_MAGIC && sums == (word(24), word(28));
    if !is_good {
        // It is that of the index if the frames behind it are.
        let mut frame = [0; FRAME_HEADER_BYTES];
        let ours = fill(file, &mut frame)? && frame[8..16] == index.salts;
        return Ok(ours.then_some(0));
    }
    if header[16..24] != index.salts {
        return Ok(None);
    }
    let page_bytes = word(8) as usize;
    if !page_bytes.is_power_of_two() || page_bytes > PAGE_BYTES_MAX {
        return Ok(Some(0));
    }
    file.seek(SeekFrom::Start(LOG_HEADER_BYTES as u64))?;
    let mut file = io::BufReader::with_capacity(1 << 20, file);
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    for number in 0..index.frames {
        if !fill(&mut file, &mut frame)? {
            return Ok(Some(number));
        }
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        sums = checksum(sums, &head[..FRAME_HEADER_CHECKED], order);
        sums = checksum(sums, page, order);
        let said = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if head[8..16] != index.salts || sums != (said(16), said(20)) {
            return Ok(Some(number));
        }
    }
    Ok(Some(index.frames))
}

/// Tells whether there were so many bytes.
fn fill(from: &mut impl io::Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

/// The log's own checksum: two sums over pairs of words.
fn checksum(
    (mut first, mut second): (u32, u32),
    bytes: &[u8],
    order: fn([u8; 4]) -> u32,
) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let (left, right) = pair.split_at(4);
        let word = |half: &[u8]| order(half.try_into().expect("4 bytes"));
        first = first.wrapping_add(word(left)).wrapping_add(second);
        second = second.wrapping_add(word(right)).wrapping_add(first);
    }
    (first, second)
}
