//! A client of gRPC that costs next to nothing, so that what is measured is the server: HTTP/2 frames written by hand, unary and streaming calls with
//! headers that the server has seen before, and answers of which only their arrival counts, or what a caller looks for in them.

use anyhow::{Context as _, bail};
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
const WINDOW_MAX: u32 = i32::MAX.unsigned_abs();
/// What RFC 9113 gives each side before the first update.
const WINDOW_INITIAL: u32 = 65_535;
/// The prefix of a message in gRPC: not compressed, and its length.
const MESSAGE_HEADER_BYTES: usize = 5;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

mod flag {
    pub(super) const ACK: u8 = 1;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
}

/// One connection; its streams are numbered in the order in which they are opened.
pub(crate) struct Wire {
    socket: TcpStream,
    read: BytesMut,
    write: BytesMut,
    /// Bytes of data that the server still takes.
    window: u64,
    next_stream: u32,
    /// The first headers of a path teach the server its index.
    path: Option<&'static str>,
}

/// What a server sent.
pub(crate) enum Received {
    Data {
        stream: u32,
        bytes: BytesMut,
    },
    /// No more follows on the stream.
    End {
        stream: u32,
    },
}

impl Wire {
    pub(crate) async fn connect(port: u16) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let mut wire = Self {
            socket,
            read: BytesMut::with_capacity(64 << 10),
            write: BytesMut::with_capacity(64 << 10),
            window: u64::from(WINDOW_INITIAL),
            next_stream: 1,
            path: None,
        };
        wire.write.put_slice(PREFACE);
        // Windows as large as they get: a server never waits for us.
        wire.frame(kind::SETTINGS, 0, 0, 6);
        wire.write.put_u16(4);
        wire.write.put_u32(WINDOW_MAX);
        wire.frame(kind::WINDOW_UPDATE, 0, 0, 4);
        wire.write.put_u32(WINDOW_MAX - WINDOW_INITIAL);
        wire.flush().await?;
        Ok(wire)
    }

    /// Whether the server takes a message of so many bytes now.
    pub(crate) fn takes(&self, message_bytes: usize) -> bool {
        self.window >= (message_bytes + MESSAGE_HEADER_BYTES) as u64
    }

    /// Puts a call with one message into the buffer; `last` says whether another message may follow. A connection serves one path.
    pub(crate) fn call(&mut self, path: &'static str, message: &[u8], last: Last) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = if self.path == Some(path) {
            // By their places in the table that the first call filled.
            vec![0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe]
        } else {
            assert!(
                self.path.replace(path).is_none(),
                "a connection serves one path"
            );
            first_headers(path)
        };
        self.frame(kind::HEADERS, flag::END_HEADERS, stream, headers.len());
        self.write.put_slice(&headers);
        let flags = match last {
            Last::Yes => flag::END_STREAM,
            Last::No => 0,
        };
        let length = message.len() + MESSAGE_HEADER_BYTES;
        self.frame(kind::DATA, flags, stream, length);
        self.write.put_u8(0);
        self.write
            .put_u32(u32::try_from(message.len()).expect("messages are small"));
        self.write.put_slice(message);
        self.window -= length as u64;
        stream
    }

    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.write.is_empty() {
            self.socket.write_all(&self.write).await?;
            self.write.clear();
        }
        Ok(())
    }

    /// Waits for bytes and shows what arrived whole.
    pub(crate) async fn receive(&mut self, seen: &mut Vec<Received>) -> anyhow::Result<()> {
        if self.socket.read_buf(&mut self.read).await? == 0 {
            bail!("the server closed the connection");
        }
        while self.read.len() >= FRAME_HEADER_BYTES {
            let length = usize::from(self.read[0]) << 16
                | usize::from(self.read[1]) << 8
                | usize::from(self.read[2]);
            if self.read.len() < FRAME_HEADER_BYTES + length {
                break;
            }
            let mut header = self.read.split_to(FRAME_HEADER_BYTES);
            let body = self.read.split_to(length);
            header.advance(3);
            let (kind, flags, stream) = (header.get_u8(), header.get_u8(), header.get_u32());
            self.take(kind, flags, stream, body, seen)?;
        }
        if self.read.is_empty() {
            self.read.reserve(64 << 10);
        }
        Ok(())
    }

    fn take(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        mut body: BytesMut,
        seen: &mut Vec<Received>,
    ) -> anyhow::Result<()> {
        match kind {
            kind::DATA if !body.is_empty() => seen.push(Received::Data {
                stream,
                bytes: body,
            }),
            kind::SETTINGS if flags & flag::ACK == 0 => self.frame(kind::SETTINGS, flag::ACK, 0, 0),
            kind::PING if flags & flag::ACK == 0 => {
                self.frame(kind::PING, flag::ACK, 0, body.len());
                self.write.put_slice(&body);
            }
            kind::WINDOW_UPDATE if stream == 0 => {
                self.window += u64::from(body.try_get_u32().context("a short update")?);
            }
            kind::RST_STREAM => bail!("the server reset a call: {body:?}"),
            kind::GOAWAY => bail!("the server ends the connection: {body:?}"),
            _ => {}
        }
        let ends = matches!(kind, kind::DATA | kind::HEADERS) && flags & flag::END_STREAM != 0;
        if ends {
            seen.push(Received::End { stream });
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, length: usize) {
        let length = u32::try_from(length).expect("frames are small");
        self.write.put_slice(&length.to_be_bytes()[1..]);
        self.write.put_u8(kind);
        self.write.put_u8(flags);
        self.write.put_u32(stream);
    }
}

/// Whether a call has said all it wants to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Yes,
    No,
}

/// The headers in full, each of which the server is to remember.
fn first_headers(path: &str) -> Vec<u8> {
    let mut headers = vec![0x83, 0x86];
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("headers are short");
        assert!(length < 127, "headers are short");
        [&[length], text.as_bytes()].concat()
    };
    let parts = [
        (vec![0x44], text(path)),
        (vec![0x41], text("127.0.0.1")),
        (vec![0x5f], text("application/grpc")),
        ([&[0x40][..], &text("te")].concat(), text("trailers")),
    ];
    for (name, value) in parts {
        headers.extend(name);
        headers.extend(value);
    }
    headers
}

/// A field of a message in protobuf that holds bytes.
pub(crate) fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    put_number(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

pub(crate) fn put_number(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    message.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_seven_bits() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &[7; 300]);
        assert_eq!(message[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(message.len(), 303);
    }

    #[test]
    fn the_first_headers_fill_four_places_of_the_table() {
        let headers = first_headers("/a.B/C");
        assert_eq!(headers[..2], [0x83, 0x86]);
        let added = headers.iter().position(|byte| *byte == 0x40);
        let last = headers.iter().rposition(|byte| *byte == 0x40);
        assert!(added.is_some() && added == last, "{headers:?}");
        assert!(headers.ends_with(b"trailers"));
    }
}
