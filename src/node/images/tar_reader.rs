//! Reads a tar stream entry by entry with bounded memory; what it cannot represent faithfully it refuses.
//!
//! POSIX pax, ustar, v7 and GNU long names are understood. Sparse files are refused: no image builder writes them, and their headers promise
//! sizes that the stream does not hold.

use std::fs::File;
use std::io::{self, BufReader, Read};

use crate::refusal::Refusal;

const BLOCK_BYTES: usize = 512;
/// What is read at a time where most is passed over.
const SEEKING_BUFFER_BYTES: usize = 4096;
/// `PATH_MAX` of Linux, with the closing NUL.
pub(crate) const PATH_BYTES_MAX: usize = 4096;
/// All pax records of one entry together.
const PAX_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("entry {entry:?}: {refusal}")]
    Refused { entry: String, refusal: Refusal },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry's header; its content is read from the reader until the next call of `next_entry`.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size_bytes: u64,
    pub(crate) mtime_seconds: i64,
    pub(crate) mtime_nanoseconds: u32,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    pub(crate) fn display(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// The content of an entry is read through `Read`.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Passes over so many bytes; gives how many there were.
    skip: fn(&mut R, u64) -> io::Result<u64>,
    content_left: u64,
    padding_left: u64,
    ended: bool,
}

/// What pax and GNU extension entries say about the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl TarReader<BufReader<File>> {
    /// Of a plain archive of which only a few entries are read: the others are not.
    pub(crate) fn seeking(archive: File) -> Self {
        let mut reader = Self::new(BufReader::with_capacity(SEEKING_BUFFER_BYTES, archive));
        reader.skip = |inner, count| {
            let offset = i64::try_from(count).map_err(|_| truncated())?;
            inner.seek_relative(offset).map(|()| count)
        };
        reader
    }
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            skip: |inner, count| io::copy(&mut inner.take(count), &mut io::sink()),
            content_left: 0,
            padding_left: 0,
            ended: false,
        }
    }

    /// The next entry, or `None` at the end of the archive. Skips what is left of the content before it.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let name = || String::from_utf8_lossy(&header.path_bytes()).into_owned();
            let refuse = |refusal| TarError::Refused {
                entry: name(),
                refusal,
            };
            let size_bytes = header.entry_size().map_err(|_| refuse(Refusal::Header))?;
            let kind = header.as_bytes()[156];
            match kind {
                b'x' | b'g' => {
                    let records = self
                        .read_extension(size_bytes, PAX_BYTES_MAX)
                        .map_err(|error| error.named(&name))?;
                    // Global records describe the archive, not a file: git writes a comment there, nobody a path.
                    if kind == b'x' {
                        extensions.read_pax(&records).map_err(refuse)?;
                    }
                }
                b'L' | b'K' => {
                    let mut long = self
                        .read_extension(size_bytes, PATH_BYTES_MAX as u64)
                        .map_err(|error| error.named(&name))?;
                    while long.last() == Some(&0) {
                        long.pop();
                    }
                    *(if kind == b'L' {
                        &mut extensions.path
                    } else {
                        &mut extensions.link
                    }) = Some(long);
                }
                _ => {
                    let entry = assemble(&header, kind, size_bytes, extensions).map_err(refuse)?;
                    self.start_content(entry.size_bytes);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads to the end of the underlying stream, so that a digest over it sees all bytes.
    pub(crate) fn drain(mut self) -> io::Result<()> {
        io::copy(&mut self.inner, &mut io::sink()).map(|_| ())
    }

    fn start_content(&mut self, size_bytes: u64) {
        let past_block = size_bytes % BLOCK_BYTES as u64;
        self.content_left = size_bytes;
        self.padding_left = if past_block == 0 {
            0
        } else {
            BLOCK_BYTES as u64 - past_block
        };
    }

    fn skip_content(&mut self) -> io::Result<()> {
        let skip = self.content_left.saturating_add(self.padding_left);
        self.content_left = 0;
        self.padding_left = 0;
        let skipped = (self.skip)(&mut self.inner, skip)?;
        if skipped == skip {
            Ok(())
        } else {
            Err(truncated())
        }
    }

    fn read_header(&mut self) -> Result<Option<tar::Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        if !self.read_block(header.as_mut_bytes())?
            || header.as_bytes().iter().all(|byte| *byte == 0)
        {
            self.ended = true;
            return Ok(None);
        }
        if !checksum_fits(&header) {
            let entry = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            return Err(TarError::Refused {
                entry,
                refusal: Refusal::Header,
            });
        }
        Ok(Some(header))
    }

    /// False when the stream ends before the first byte of the block.
    fn read_block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(truncated()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn read_extension(
        &mut self,
        size_bytes: u64,
        size_bytes_max: u64,
    ) -> Result<Vec<u8>, ExtensionError> {
        if size_bytes > size_bytes_max {
            return Err(ExtensionError::TooLong);
        }
        self.start_content(size_bytes);
        let mut content = Vec::new();
        self.read_to_end(&mut content).map_err(ExtensionError::Io)?;
        Ok(content)
    }
}

enum ExtensionError {
    TooLong,
    Io(io::Error),
}

impl ExtensionError {
    fn named(self, name: &dyn Fn() -> String) -> TarError {
        match self {
            Self::TooLong => TarError::Refused {
                entry: name(),
                refusal: Refusal::ExtensionTooLong,
            },
            Self::Io(error) => TarError::Io(error),
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.content_left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let want = usize::try_from(self.content_left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.inner.read(&mut buffer[..want])?;
        if read == 0 {
            return Err(truncated());
        }
        self.content_left -= read as u64;
        Ok(read)
    }
}

fn truncated() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the archive ends in the middle of an entry",
    )
}

fn checksum_fits(header: &tar::Header) -> bool {
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148]
        .iter()
        .chain(&bytes[156..])
        .map(|byte| u32::from(*byte))
        .sum::<u32>()
        + 8 * u32::from(b' ');
    header.cksum().is_ok_and(|stored| stored == sum)
}

fn assemble(
    header: &tar::Header,
    kind: u8,
    size_bytes: u64,
    extensions: Extensions,
) -> Result<Entry, Refusal> {
    let path = extensions
        .path
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let kind = match kind {
        // Version 7 archives know a directory by its slash alone.
        b'0' | 0 | b'7' if path.ends_with(b"/") => EntryKind::Directory,
        b'0' | 0 | b'7' => EntryKind::Regular,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        b'S' => return Err(Refusal::Sparse),
        _ => return Err(Refusal::Kind),
    };
    let size_bytes = extensions.size_bytes.unwrap_or(size_bytes);
    // Only regular files have content; a size in the header of another kind means nothing (POSIX), and some writers fill it in for links.
    let size_bytes = if kind == EntryKind::Regular {
        size_bytes
    } else {
        0
    };
    let link = extensions
        .link
        .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
        .unwrap_or_default();
    let major = header.device_major().unwrap_or(None).unwrap_or(0);
    let minor = header.device_minor().unwrap_or(None).unwrap_or(0);
    let (mtime_seconds, mtime_nanoseconds) = match extensions.mtime {
        Some(mtime) => mtime,
        None => (
            header
                .mtime()
                .ok()
                .and_then(|seconds| i64::try_from(seconds).ok())
                .unwrap_or(0),
            0,
        ),
    };
    Ok(Entry {
        kind,
        path,
        link,
        mode: header.mode().map_err(|_| Refusal::Header)?,
        uid: extensions
            .uid
            .map_or_else(|| owner(&header.as_old().uid, || header.uid()), Ok)?,
        gid: extensions
            .gid
            .map_or_else(|| owner(&header.as_old().gid, || header.gid()), Ok)?,
        size_bytes,
        mtime_seconds,
        mtime_nanoseconds,
        device: (major, minor),
        xattrs: extensions.xattrs,
    })
}

/// A field that a writer left empty means 0, as every other reader takes it.
fn owner(field: &[u8], read: impl FnOnce() -> std::io::Result<u64>) -> Result<u64, Refusal> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(0);
    }
    read().map_err(|_| Refusal::Header)
}

impl Extensions {
    /// Records are `<length> <key>=<value>\n`, the length counting itself (POSIX pax).
    fn read_pax(&mut self, mut records: &[u8]) -> Result<(), Refusal> {
        while !records.is_empty() {
            let space = records
                .iter()
                .position(|byte| *byte == b' ')
                .ok_or(Refusal::Header)?;
            let length: usize = text(&records[..space])?
                .parse()
                .map_err(|_| Refusal::Header)?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err(Refusal::Header);
            }
            let record = &records[space + 1..length - 1];
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or(Refusal::Header)?;
            self.read_record(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn read_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size_bytes = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(moment(value)?),
            _ if key.starts_with(b"GNU.sparse.") => return Err(Refusal::Sparse),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::Header)
}

fn number(value: &[u8]) -> Result<u64, Refusal> {
    text(value)?.parse().map_err(|_| Refusal::Header)
}

/// Seconds with an optional fraction, `1700000000.25`, also before 1970.
fn moment(value: &[u8]) -> Result<(i64, u32), Refusal> {
    let value = text(value)?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds: i64 = whole.parse().map_err(|_| Refusal::Header)?;
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| Refusal::Header)?;
    if !whole.starts_with('-') || nanoseconds == 0 {
        return Ok((seconds, nanoseconds));
    }
    Ok((seconds - 1, 1_000_000_000 - nanoseconds))
}
