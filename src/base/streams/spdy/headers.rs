//! Header blocks: names and values, compressed with one zlib stream per direction that lives as long as the connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;
use crate::error::{Error, Result};

/// One header block, uncompressed, in bytes; what Kubernetes sends is below 200.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: u32 = 100;
const COMPRESS_STEP_BYTES: usize = 1024;

/// Headers of a stream, names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header; the name is written in lower case, as SPDY demands.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// The first value of a header, whose name's case does not matter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = length(self.0.len()).to_vec();
        for (name, value) in &self.0 {
            for text in [name, value] {
                block.extend_from_slice(&length(text.len()));
                block.extend_from_slice(text.as_bytes());
            }
        }
        block
    }

    pub(crate) fn decode(mut block: &[u8]) -> Result<Self> {
        let count = take_length(&mut block)?;
        if count > HEADERS_MAX {
            return Err(Error::Protocol("too many headers"));
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = take_text(&mut block)?;
            let values = take_text(&mut block)?;
            if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(Error::Protocol("a header's name is not in lower case"));
            }
            // One header may hold several values, separated by NUL.
            headers.extend(
                values
                    .split('\0')
                    .map(|value| (name.clone(), value.to_owned())),
            );
        }
        if block.is_empty() {
            Ok(Self(headers))
        } else {
            Err(Error::Protocol("a header block is too long"))
        }
    }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("our own headers are short")
        .to_be_bytes()
}

fn take_length(block: &mut &[u8]) -> Result<u32> {
    let (length, rest) = block
        .split_first_chunk::<4>()
        .ok_or(Error::Protocol("a header block is too short"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*length))
}

fn take_text(block: &mut &[u8]) -> Result<String> {
    let length = usize::try_from(take_length(block)?)
        .map_err(|_| Error::Protocol("a header is too long"))?;
    let (text, rest) = block
        .split_at_checked(length)
        .ok_or(Error::Protocol("a header block is too short"))?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Protocol("a header is not UTF-8"))
}

/// Compresses the header blocks of one direction.
pub(crate) struct HeaderCompressor(Compress);

impl HeaderCompressor {
    pub(crate) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(dictionary())
            .expect("a fresh zlib stream takes a dictionary");
        Self(compress)
    }

    pub(crate) fn compress(&mut self, block: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(block.len() + COMPRESS_STEP_BYTES);
        let start = self.0.total_in();
        loop {
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            out.reserve(COMPRESS_STEP_BYTES);
            self.0
                .compress_vec(&block[consumed..], &mut out, FlushCompress::Sync)
                .map_err(|_| Error::Protocol("a header block cannot be compressed"))?;
            let done = self.0.total_in() - start == block.len() as u64;
            // Room that is left says that the flush is complete.
            if done && out.len() < out.capacity() {
                return Ok(out);
            }
        }
    }
}

/// Decompresses the header blocks of one direction.
pub(crate) struct HeaderDecompressor(Decompress);

impl HeaderDecompressor {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn decompress(&mut self, mut block: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(BLOCK_BYTES_MAX.min(block.len() * 4 + 64));
        loop {
            let before = (self.0.total_in(), out.len());
            let status = match self
                .0
                .decompress_vec(block, &mut out, FlushDecompress::Sync)
            {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(dictionary())
                        .map_err(|_| Error::Protocol("header blocks use an unknown dictionary"))?;
                    Status::Ok
                }
                Err(_) => {
                    return Err(Error::Protocol(
                        "a header block is not compressed correctly",
                    ));
                }
                Ok(status) => status,
            };
            let consumed = usize::try_from(self.0.total_in() - before.0).unwrap_or(usize::MAX);
            block = block.get(consumed..).unwrap_or_default();
            if out.len() > BLOCK_BYTES_MAX {
                return Err(Error::Protocol("a header block is too long"));
            }
            if status == Status::StreamEnd {
                return Err(Error::Protocol("the stream of header blocks ended"));
            }
            if out.len() == out.capacity() {
                out.reserve(COMPRESS_STEP_BYTES);
            } else if block.is_empty() {
                return Ok(out);
            } else if consumed == 0 && out.len() == before.1 {
                return Err(Error::Protocol(
                    "a header block is not compressed correctly",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> Headers {
        Headers::new()
            .with("streamType", "stdin")
            .with("port", value)
    }

    #[test]
    fn blocks_survive_one_compressed_stream() {
        let (mut compressor, mut decompressor) =
            (HeaderCompressor::new(), HeaderDecompressor::new());
        for value in ["80", "", &"x".repeat(20_000), "8080"] {
            let wanted = headers(value);
            let packed = compressor.compress(&wanted.encode()).unwrap();
            assert_eq!(
                Headers::decode(&decompressor.decompress(&packed).unwrap()).unwrap(),
                wanted
            );
        }
        assert_eq!(headers("80").get("STREAMTYPE"), Some("stdin"));
    }

    #[test]
    fn a_small_block_that_grows_without_end_is_refused() {
        let packed = HeaderCompressor::new()
            .compress(&vec![b'a'; BLOCK_BYTES_MAX * 4])
            .unwrap();
        assert!(packed.len() < BLOCK_BYTES_MAX);
        assert!(HeaderDecompressor::new().decompress(&packed).is_err());
    }

    #[test]
    fn damaged_blocks_are_refused() {
        let good = headers("80").encode();
        for cut in 0..good.len() {
            assert!(Headers::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Headers::decode(&[good.as_slice(), &[0]].concat()).is_err());
        assert!(Headers::decode(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(Headers::decode(&[0, 0, 0, 1, 0, 0, 0, 1, b'A', 0, 0, 0, 0]).is_err());
        for noise in 0..=255u8 {
            let _refused_or_not =
                HeaderDecompressor::new().decompress(&[noise, noise ^ 0x5a, 1, 2, 3, noise]);
        }
    }
}
