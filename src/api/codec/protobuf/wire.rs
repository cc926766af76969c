//! The wire format: a writer that goes backwards, so that lengths are known when they are written, and a bounded reader.

use super::ProtobufError;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const LENGTH: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// A number as the wire has it: seven bits in each byte, the lowest first.
pub(crate) struct Varint {
    bytes: [u8; 10],
    length: usize,
}

impl Varint {
    pub(crate) fn new(value: u64) -> Self {
        let (mut bytes, mut length, mut rest) = ([0; 10], 0, value);
        while rest >= 0x80 {
            bytes[length] = (rest & 0x7f) as u8 | 0x80;
            rest >>= 7;
            length += 1;
        }
        bytes[length] = rest as u8;
        length += 1;
        Self { bytes, length }
    }

    /// What a field begins with.
    pub(crate) fn key(tag: u32, wire_type: u8) -> Self {
        Self::new(u64::from(tag) << 3 | u64::from(wire_type))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Collects a message from its end to its beginning.
#[derive(Debug)]
pub(crate) struct Backward {
    /// Filled from its end.
    buffer: Vec<u8>,
    start: usize,
}

impl Backward {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            buffer: vec![0; bytes],
            start: bytes,
        }
    }

    /// A place to hand to [`Self::close`]: the end of what is written next.
    pub(crate) fn mark(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > self.start {
            self.grow(bytes.len());
        }
        let end = self.start;
        self.start -= bytes.len();
        copy(bytes, &mut self.buffer[self.start..end]);
    }

    fn byte(&mut self, byte: u8) {
        if self.start == 0 {
            self.grow(1);
        }
        self.start -= 1;
        self.buffer[self.start] = byte;
    }

    #[cold]
    fn grow(&mut self, missing: usize) {
        let larger = (self.buffer.len() * 2).max(self.mark() + missing).max(256);
        let mut buffer = vec![0; larger];
        let start = larger - self.mark();
        buffer[start..].copy_from_slice(self.written());
        (self.buffer, self.start) = (buffer, start);
    }

    fn varint(&mut self, value: u64) {
        // Nearly all are small.
        match u8::try_from(value) {
            Ok(byte) if byte < 0x80 => self.byte(byte),
            _ => self.bytes(Varint::new(value).as_bytes()),
        }
    }

    pub(super) fn key(&mut self, tag: u32, wire_type: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(wire_type));
    }

    /// Makes what was written since the mark the content of a field.
    pub(crate) fn close(&mut self, tag: u32, end: usize) {
        self.varint((self.mark() - end) as u64);
        self.key(tag, LENGTH);
    }

    pub(crate) fn field_bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.bytes(bytes);
        self.varint(bytes.len() as u64);
        self.key(tag, LENGTH);
    }

    pub(crate) fn text(&mut self, tag: u32, text: &str) {
        self.field_bytes(tag, text.as_bytes());
    }

    pub(crate) fn integer(&mut self, tag: u32, value: i64) {
        self.varint(value.cast_unsigned());
        self.key(tag, VARINT);
    }

    pub(crate) fn double(&mut self, tag: u32, value: f64) {
        self.bytes(&value.to_bits().to_le_bytes());
        self.key(tag, FIXED64);
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Forgets what was written, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.start = self.buffer.len();
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }
}

/// Copies between slices of one length. The C library's way costs more than most texts of an object are long.
fn copy(from: &[u8], to: &mut [u8]) {
    fn ends<const N: usize>(from: &[u8], to: &mut [u8]) -> Option<()> {
        (*to.first_chunk_mut::<N>()?, *to.last_chunk_mut::<N>()?) =
            (*from.first_chunk()?, *from.last_chunk()?);
        Some(())
    }
    match from.len() {
        0 => {}
        1..4 => from.iter().zip(to).for_each(|(from, to)| *to = *from),
        4..8 => ends::<4>(from, to).expect("at least 4 bytes"),
        8..16 => ends::<8>(from, to).expect("at least 8 bytes"),
        16..=32 => ends::<16>(from, to).expect("at least 16 bytes"),
        _ => to.copy_from_slice(from),
    }
}

/// Reads a message front to back; never beyond its end.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and wire type; `None` at the end.
    pub(crate) fn tag(&mut self) -> Result<Option<(u32, u8)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        let tag = u32::try_from(number).ok().filter(|tag| *tag > 0);
        let tag = tag.ok_or(ProtobufError::IllegalTag(number))?;
        Ok(Some((tag, u8::try_from(key & 7).expect("three bits"))))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            if shift == 63 && byte > 1 {
                return Err(ProtobufError::IntegerOverflow);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::IntegerOverflow)
    }

    pub(crate) fn integer(
        &mut self,
        wire_type: u8,
        field: &'static str,
    ) -> Result<i64, ProtobufError> {
        expect(wire_type, VARINT, field)?;
        Ok(self.varint()?.cast_signed())
    }

    pub(crate) fn double(
        &mut self,
        wire_type: u8,
        field: &'static str,
    ) -> Result<f64, ProtobufError> {
        expect(wire_type, FIXED64, field)?;
        let bytes = self.take(8)?;
        Ok(f64::from_le_bytes(
            bytes.try_into().expect("eight bytes were taken"),
        ))
    }

    pub(crate) fn bytes(
        &mut self,
        wire_type: u8,
        field: &'static str,
    ) -> Result<&'a [u8], ProtobufError> {
        expect(wire_type, LENGTH, field)?;
        let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
        self.take(length)
    }

    pub(crate) fn text(
        &mut self,
        wire_type: u8,
        field: &'static str,
    ) -> Result<&'a str, ProtobufError> {
        let bytes = self.bytes(wire_type, field)?;
        std::str::from_utf8(bytes).map_err(|_| ProtobufError::InvalidUtf8 { field })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Passes over a field that nobody here knows.
    pub(crate) fn skip(&mut self, wire_type: u8) -> Result<(), ProtobufError> {
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LENGTH => self.bytes(wire_type, "").map(drop),
            FIXED32 => self.take(4).map(drop),
            // Groups were never written by anything that speaks this protocol.
            other => Err(ProtobufError::IllegalWireType(other)),
        }
    }
}

fn expect(wire_type: u8, expected: u8, field: &'static str) -> Result<(), ProtobufError> {
    if wire_type == expected {
        return Ok(());
    }
    Err(ProtobufError::WrongWireType { wire_type, field })
}
