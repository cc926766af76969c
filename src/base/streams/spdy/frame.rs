//! SPDY/3.1 frames: bytes to values and back, nothing else (SPDY/3.1 draft, section 2.2).

use super::headers::{HeaderCompressor, HeaderDecompressor, Headers};
use crate::error::{Error, Result};

pub(crate) const HEAD_BYTES: usize = 8;
const VERSION: u16 = 3;
/// The longest control frame that is read, in bytes after its head.
pub(crate) const CONTROL_BYTES_MAX: u32 = 64 * 1024;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;
pub(crate) const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const STREAM_ID_MASK: u32 = 0x7fff_ffff;

/// Why a stream is reset.
pub(crate) const RST_PROTOCOL_ERROR: u32 = 1;
pub(crate) const RST_INVALID_STREAM: u32 = 2;
pub(crate) const RST_REFUSED_STREAM: u32 = 3;
pub(crate) const RST_CANCEL: u32 = 5;

/// The first eight bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Control { kind: u16, flags: u8, length: u32 },
    Data { stream: u32, flags: u8, length: u32 },
}

pub(crate) fn parse_head(bytes: [u8; HEAD_BYTES]) -> Result<Head> {
    let (first, second) = bytes.split_at(4);
    let first = first
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte));
    let flags = second[0];
    let length = second[1..]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte));
    if first & !STREAM_ID_MASK == 0 {
        return match first {
            0 => Err(Error::Protocol("data on stream 0")),
            stream => Ok(Head::Data {
                stream,
                flags,
                length,
            }),
        };
    }
    if (first >> 16) & 0x7fff != u32::from(VERSION) {
        return Err(Error::Protocol("not SPDY/3"));
    }
    if length > CONTROL_BYTES_MAX {
        return Err(Error::Protocol("a control frame is too long"));
    }
    Ok(Head::Control {
        kind: (first & 0xffff) as u16,
        flags,
        length,
    })
}

/// What a peer says outside of data frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    Open {
        stream: u32,
        headers: Headers,
        fin: bool,
        unidirectional: bool,
    },
    Reply {
        stream: u32,
        fin: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    MoreHeaders {
        stream: u32,
        fin: bool,
    },
    /// Settings and window updates: peers of Kubernetes neither send nor obey them.
    Ignored,
}

pub(crate) fn parse_control(
    kind: u16,
    flags: u8,
    payload: &[u8],
    headers: &mut HeaderDecompressor,
) -> Result<Control> {
    let fin = flags & FLAG_FIN != 0;
    match kind {
        SYN_STREAM => {
            let stream = stream_at(payload)?;
            let block = payload.get(10..).ok_or(TOO_SHORT)?;
            let headers = Headers::decode(&headers.decompress(block)?)?;
            Ok(Control::Open {
                stream,
                headers,
                fin,
                unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
            })
        }
        SYN_REPLY | HEADERS => {
            let stream = stream_at(payload)?;
            Headers::decode(&headers.decompress(payload.get(4..).ok_or(TOO_SHORT)?)?)?;
            Ok(if kind == SYN_REPLY {
                Control::Reply { stream, fin }
            } else {
                Control::MoreHeaders { stream, fin }
            })
        }
        RST_STREAM if payload.len() == 8 => Ok(Control::Reset {
            stream: stream_at(payload)?,
        }),
        PING if payload.len() == 4 => Ok(Control::Ping {
            id: word_at(payload, 0)?,
        }),
        GOAWAY if payload.len() == 8 => Ok(Control::GoAway),
        WINDOW_UPDATE if payload.len() == 8 => Ok(Control::Ignored),
        SETTINGS if payload.len() >= 4 => Ok(Control::Ignored),
        RST_STREAM | PING | GOAWAY | WINDOW_UPDATE | SETTINGS => {
            Err(Error::Protocol("a control frame has the wrong length"))
        }
        _ => Err(Error::Protocol("an unknown control frame")),
    }
}

const TOO_SHORT: Error = Error::Protocol("a control frame is too short");

fn word_at(payload: &[u8], at: usize) -> Result<u32> {
    let bytes = payload
        .get(at..at + 4)
        .and_then(|bytes| bytes.first_chunk::<4>())
        .ok_or(TOO_SHORT)?;
    Ok(u32::from_be_bytes(*bytes))
}

fn stream_at(payload: &[u8]) -> Result<u32> {
    match word_at(payload, 0)? & STREAM_ID_MASK {
        0 => Err(Error::Protocol("a frame for stream 0")),
        stream => Ok(stream),
    }
}

pub(crate) fn syn_stream(
    stream: u32,
    headers: &Headers,
    compressor: &mut HeaderCompressor,
) -> Result<Vec<u8>> {
    // No associated stream, highest priority, no slot.
    let fixed = [&stream.to_be_bytes()[..], &[0; 6]].concat();
    control(
        SYN_STREAM,
        0,
        &[fixed.as_slice(), &compressor.compress(&headers.encode())?],
    )
}

pub(crate) fn syn_reply(stream: u32, compressor: &mut HeaderCompressor) -> Result<Vec<u8>> {
    control(
        SYN_REPLY,
        0,
        &[
            &stream.to_be_bytes(),
            &compressor.compress(&Headers::new().encode())?,
        ],
    )
}

pub(crate) fn rst_stream(stream: u32, status: u32) -> Result<Vec<u8>> {
    control(
        RST_STREAM,
        0,
        &[&stream.to_be_bytes(), &status.to_be_bytes()],
    )
}

pub(crate) fn ping(id: u32) -> Result<Vec<u8>> {
    control(PING, 0, &[&id.to_be_bytes()])
}

pub(crate) fn go_away(last_stream: u32) -> Result<Vec<u8>> {
    control(GOAWAY, 0, &[&last_stream.to_be_bytes(), &[0; 4]])
}

pub(crate) fn window_update(stream: u32, delta: u32) -> Result<Vec<u8>> {
    control(
        WINDOW_UPDATE,
        0,
        &[&stream.to_be_bytes(), &delta.to_be_bytes()],
    )
}

/// The head of a data frame with `length` bytes, which follow.
pub(crate) fn data_head(stream: u32, flags: u8, length: usize) -> Result<[u8; HEAD_BYTES]> {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&stream.to_be_bytes());
    head[4] = flags;
    head[5..].copy_from_slice(&length_bytes(length)?);
    Ok(head)
}

fn control(kind: u16, flags: u8, parts: &[&[u8]]) -> Result<Vec<u8>> {
    let [length_a, length_b, length_c] = length_bytes(parts.iter().map(|part| part.len()).sum())?;
    let [version_a, version_b] = (VERSION | 0x8000).to_be_bytes();
    let [kind_a, kind_b] = kind.to_be_bytes();
    let head = [
        version_a, version_b, kind_a, kind_b, flags, length_a, length_b, length_c,
    ];
    Ok([&head[..], &parts.concat()].concat())
}

fn length_bytes(length: usize) -> Result<[u8; 3]> {
    match u32::try_from(length).map(u32::to_be_bytes) {
        Ok([0, a, b, c]) => Ok([a, b, c]),
        _ => Err(Error::Protocol("a frame is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(frame: &[u8], headers: &mut HeaderDecompressor) -> Result<Control> {
        let head = parse_head(*frame.first_chunk().unwrap())?;
        let Head::Control {
            kind,
            flags,
            length,
        } = head
        else {
            panic!("{head:?}")
        };
        assert_eq!(frame.len() - HEAD_BYTES, length as usize);
        parse_control(kind, flags, &frame[HEAD_BYTES..], headers)
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (mut compressor, mut decompressor) =
            (HeaderCompressor::new(), HeaderDecompressor::new());
        let headers = Headers::new().with("streamtype", "data").with("port", "80");
        let open = syn_stream(1, &headers, &mut compressor).unwrap();
        assert_eq!(
            parse(&open, &mut decompressor).unwrap(),
            Control::Open {
                stream: 1,
                headers,
                fin: false,
                unidirectional: false
            }
        );
        let reply = syn_reply(1, &mut compressor).unwrap();
        assert_eq!(
            parse(&reply, &mut decompressor).unwrap(),
            Control::Reply {
                stream: 1,
                fin: false
            }
        );
        assert_eq!(
            parse(&rst_stream(3, RST_CANCEL).unwrap(), &mut decompressor).unwrap(),
            Control::Reset { stream: 3 }
        );
        assert_eq!(
            parse(&ping(9).unwrap(), &mut decompressor).unwrap(),
            Control::Ping { id: 9 }
        );
        assert_eq!(
            parse(&go_away(7).unwrap(), &mut decompressor).unwrap(),
            Control::GoAway
        );
        assert_eq!(
            parse(&window_update(1, 5).unwrap(), &mut decompressor).unwrap(),
            Control::Ignored
        );
        let data = data_head(5, FLAG_FIN, 300).unwrap();
        assert_eq!(
            parse_head(data).unwrap(),
            Head::Data {
                stream: 5,
                flags: FLAG_FIN,
                length: 300
            }
        );
    }

    #[test]
    fn hostile_heads_are_refused() {
        for head in [
            [0, 0, 0, 0, 0, 0, 0, 1],
            [0x80, 2, 0, 1, 0, 0, 0, 1],
            [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        ] {
            assert!(parse_head(head).is_err(), "{head:?}");
        }
    }

    #[test]
    fn no_payload_of_any_length_panics() {
        for kind in 0..12 {
            for length in 0..24 {
                for fill in [0, 1, 0x78, 0xff] {
                    let _refused_or_not = parse_control(
                        kind,
                        0xff,
                        &vec![fill; length],
                        &mut HeaderDecompressor::new(),
                    );
                }
            }
        }
    }
}
