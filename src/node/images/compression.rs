//! Tells a compressed stream by its first bytes and decompresses it while it is read.

use std::io::{self, BufReader, Read};

const MAGIC_LEN: usize = 6;
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// The largest zstd window a stream may ask for, as a power of two: 128 MiB, what `zstd --ultra` makes at most.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A reader of the plain bytes of `inner`, which may be gzip, zstd or plain; bzip2 and xz are refused.
pub(crate) fn decompressed<'a, R: Read + 'a>(mut inner: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; MAGIC_LEN];
    let filled = fill(&mut inner, &mut magic)?;
    let whole = io::Cursor::new(magic[..filled].to_vec()).chain(inner);
    match &magic[..filled] {
        [0x1f, 0x8b, ..] => {
            let buffered = BufReader::with_capacity(READ_BUFFER_BYTES, whole);
            Ok(Box::new(BufReader::with_capacity(
                READ_BUFFER_BYTES,
                flate2::bufread::MultiGzDecoder::new(buffered),
            )))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::new(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Box::new(BufReader::with_capacity(
                READ_BUFFER_BYTES,
                decoder,
            )))
        }
        [b'B', b'Z', b'h', ..] => Err(refused("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(refused("xz")),
        _ => Ok(Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, whole))),
    }
}

/// Whether the first bytes are those of a compressed stream.
pub(crate) fn is_compressed(inner: &mut impl Read) -> io::Result<bool> {
    let mut magic = [0; MAGIC_LEN];
    let filled = fill(inner, &mut magic)?;
    Ok(matches!(
        &magic[..filled],
        [0x1f, 0x8b, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
            | [b'B', b'Z', b'h', ..]
            | [0xfd, b'7', b'z', b'X', b'Z', 0]
    ))
}

fn refused(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{name} compression is not supported; use gzip, zstd or none"),
    )
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
