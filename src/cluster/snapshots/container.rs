//! The file: `COMBOSNP`, the length of the header, the header in JSON, the keys, the database, and the SHA-256 of all
//! before it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::FILES_BYTES_MAX;
use crate::passphrase::Wrapping;

const MAGIC: &[u8; 8] = b"COMBOSNP";
const FORMAT: u32 = 1;
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// What comes before the keys has no more.
pub(crate) const HEAD_BYTES_MAX: usize = MAGIC.len() + size_of::<u32>() + HEADER_BYTES_MAX as usize;
/// Base64 and JSON make files a third larger.
const KEYS_BYTES_MAX: u64 = 2 * FILES_BYTES_MAX;
const BUFFER_BYTES: usize = 128 << 10;
/// Quick, and already a third of the size.
const ZSTD_LEVEL: i32 = 3;

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    pub format: u32,
    /// What snapshots of one series share.
    pub series: String,
    /// The hash of the server's authority, as in tokens.
    pub cluster: String,
    pub node: String,
    pub revision: i64,
    /// RFC 3339, in UTC.
    pub taken: String,
    /// Of the program.
    pub version: String,
    pub compression: Compression,
    /// Of the database when it is unpacked.
    pub database_bytes: u64,
    pub(crate) keys_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wrapping: Option<Wrapping>,
}

impl Header {
    pub fn needs_passphrase(&self) -> bool {
        self.wrapping.is_some()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    Zstd,
}

/// The newest format, and the only one so far.
pub(crate) const fn format() -> u32 {
    FORMAT
}

/// Passes on what is written, and sums it up.
struct Summing<W> {
    out: W,
    sum: Context,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a new file, durably.
pub(crate) fn write(path: &Path, header: &Header, keys: &[u8], database: &Path) -> Result<()> {
    let failed = Error::file("write the snapshot", path);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(&failed)?;
    let mut database = File::open(database).map_err(Error::file("read", database))?;
    let write = || {
        let mut out = Summing {
            out: BufWriter::with_capacity(BUFFER_BYTES, file),
            sum: Context::new(&SHA256),
        };
        let text = serde_json::to_vec(header).expect("a header is JSON");
        let length = u32::try_from(text.len()).expect("a header is short");
        out.write_all(MAGIC)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&text)?;
        out.write_all(keys)?;
        match header.compression {
            Compression::None => drop(io::copy(&mut database, &mut out)?),
            Compression::Zstd => zstd::stream::copy_encode(&mut database, &mut out, ZSTD_LEVEL)?,
        }
        let Summing { mut out, sum } = out;
        out.write_all(sum.finish().as_ref())?;
        out.into_inner()?.sync_all()
    };
    write().map_err(failed)
}

/// Reads what a snapshot says of itself, and nothing else of it.
pub(crate) fn read_header(path: &Path) -> Result<Header> {
    let mut file = File::open(path).map_err(Error::file("open the snapshot", path))?;
    header_of(&mut file, path).map(|(header, _)| header)
}

/// Reads a snapshot to its end and compares its checksum.
pub fn verify(path: &Path) -> Result<Header> {
    let damaged = |why: &str| Error::Damaged {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let failed = Error::file("read the snapshot", path);
    let header = read_header(path)?;
    let file = File::open(path).map_err(&failed)?;
    let length = file.metadata().map_err(&failed)?.len();
    let summed = length
        .checked_sub(SHA256_OUTPUT_LEN as u64)
        .ok_or_else(|| damaged("it ends too early"))?;
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut sum = Context::new(&SHA256);
    let mut left = summed;
    let mut buffer = vec![0; BUFFER_BYTES];
    while left > 0 {
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        reader.read_exact(&mut buffer[..wanted]).map_err(&failed)?;
        sum.update(&buffer[..wanted]);
        left -= wanted as u64;
    }
    let mut said = [0; SHA256_OUTPUT_LEN];
    reader.read_exact(&mut said).map_err(&failed)?;
    if sum.finish().as_ref() == said {
        Ok(header)
    } else {
        Err(damaged("its checksum does not match"))
    }
}

/// The keys as they are in the file.
pub(crate) fn read_keys(path: &Path) -> Result<Vec<u8>> {
    let failed = Error::file("read the snapshot", path);
    let mut file = File::open(path).map_err(&failed)?;
    let (header, _) = header_of(&mut file, path)?;
    let mut keys = Vec::new();
    file.take(header.keys_bytes)
        .read_to_end(&mut keys)
        .map_err(failed)?;
    Ok(keys)
}

/// Writes the database to a new file, durably, if it is as long as the header says.
pub(crate) fn extract_database(path: &Path, target: &Path) -> Result<()> {
    let damaged = |why: String| Error::Damaged {
        path: path.to_owned(),
        why,
    };
    let failed = Error::file("read the snapshot", path);
    let mut file = File::open(path).map_err(&failed)?;
    let length = file.metadata().map_err(&failed)?.len();
    let (header, header_bytes) = header_of(&mut file, path)?;
    io::copy(&mut (&file).take(header.keys_bytes), &mut io::sink()).map_err(&failed)?;
    let packed = length
        .checked_sub(header_bytes + header.keys_bytes + SHA256_OUTPUT_LEN as u64)
        .ok_or_else(|| damaged("it ends too early".to_owned()))?;
    let packed = BufReader::with_capacity(BUFFER_BYTES, file.take(packed));
    let unpacked: Box<dyn Read> = match header.compression {
        Compression::None => Box::new(packed),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(packed).map_err(&failed)?),
    };
    let written = Error::file("write", target);
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(&written)?;
    // One byte more than it should have, to notice what is longer.
    let bytes = io::copy(&mut unpacked.take(header.database_bytes + 1), &mut out);
    let bytes = bytes.map_err(&written)?;
    if bytes != header.database_bytes {
        let expected = header.database_bytes;
        return Err(damaged(format!(
            "the database has not the {expected} bytes that it should have"
        )));
    }
    out.sync_all().map_err(written)
}

/// The header, and how many bytes of the file come before the keys.
pub(crate) fn header_of(file: &mut dyn Read, path: &Path) -> Result<(Header, u64)> {
    let not = |why: &str| Error::NotASnapshot {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let mut start = [0; MAGIC.len() + size_of::<u32>()];
    file.read_exact(&mut start)
        .map_err(|_short| not("it is too short"))?;
    let (magic, length) = start.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(not("it does not begin like one"));
    }
    let length = u32::from_le_bytes(length.try_into().expect("four bytes are left"));
    if length > HEADER_BYTES_MAX {
        return Err(not("its header is too long"));
    }
    let mut text = Vec::new();
    let read = file.take(u64::from(length)).read_to_end(&mut text);
    read.map_err(Error::file("read the snapshot", path))?;
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let versioned: Versioned =
        serde_json::from_slice(&text).map_err(|error| not(&error.to_string()))?;
    if versioned.format > FORMAT {
        return Err(Error::NewerFormat {
            path: path.to_owned(),
            found: versioned.format,
            known: FORMAT,
        });
    }
    let header: Header = serde_json::from_slice(&text).map_err(|error| not(&error.to_string()))?;
    if header.keys_bytes > KEYS_BYTES_MAX {
        return Err(not("its keys are too long"));
    }
    if header
        .wrapping
        .as_ref()
        .is_some_and(|wrapping| !wrapping.is_sane())
    {
        return Err(not("its keys are wrapped in an unknown way"));
    }
    Ok((header, start.len() as u64 + u64::from(length)))
}
