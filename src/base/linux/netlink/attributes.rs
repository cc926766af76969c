//! The wire format: messages are built into one buffer and read without copies; lengths are always those of the bytes.

/// Bytes of a netlink header: length, type, flags, sequence number, port id.
pub(crate) const HEADER_BYTES: usize = 16;
/// Set in an attribute's type when its value is a list of attributes.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// An attribute carries its length in 16 bits.
pub(crate) const ATTRIBUTE_BYTES_MAX: usize = u16::MAX as usize;

const FLAG_REQUEST: u16 = 0x1;
const FLAG_ACK: u16 = 0x4;
const FLAG_DUMP: u16 = 0x300;
pub(crate) const FLAG_REPLACE: u16 = 0x100;
pub(crate) const FLAG_EXCLUSIVE: u16 = 0x200;
pub(crate) const FLAG_CREATE: u16 = 0x400;
pub(crate) const FLAG_APPEND: u16 = 0x800;

/// One or more messages to the kernel in one buffer, with a description of each for errors.
#[derive(Debug, Default, Clone)]
pub struct Request {
    pub(crate) bytes: Vec<u8>,
    start: usize,
    messages: u32,
}

impl Request {
    /// Begins a message of `kind` with its fixed part; attributes follow until the next `begin` or `finish`.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Self {
        self.close();
        self.start = self.bytes.len();
        self.messages += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        // The sequence number is the message's position; the socket adds its own count.
        self.bytes
            .extend_from_slice(&(self.messages - 1).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
        self
    }

    /// One message that asks for an acknowledgement.
    pub(crate) fn acknowledged(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut request = Self::default();
        request.begin(kind, flags | FLAG_ACK, fixed);
        request
    }

    /// One message that asks for all objects of a kind.
    pub(crate) fn dump(kind: u16, fixed: &[u8]) -> Self {
        let mut request = Self::default();
        request.begin(kind, FLAG_DUMP, fixed);
        request
    }

    /// One message that is answered by one object.
    pub(crate) fn get(kind: u16, fixed: &[u8]) -> Self {
        let mut request = Self::default();
        request.begin(kind, 0, fixed);
        request
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("the caller splits values below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// A 32 bit value in network order, as `nf_tables` and conntrack want it.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// A 32 bit value in the machine's order, as routing netlink wants it.
    pub(crate) fn ne32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// A list of attributes as one attribute.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length =
            u16::try_from(self.bytes.len() - start).expect("the caller splits lists below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Bytes without attribute header, for fixed parts inside a nested attribute.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Asks for an acknowledgement of the message that is being built.
    pub(crate) fn ask_acknowledgement(&mut self) -> &mut Self {
        self.bytes[self.start + 6] |= FLAG_ACK.to_ne_bytes()[0];
        self
    }

    /// Bytes so far, to keep a message below a limit.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn messages(&self) -> u32 {
        self.messages
    }

    /// Writes the length of the last message and returns all bytes, with sequence numbers counted from `sequence`.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        self.close();
        let mut at = 0;
        while at < self.bytes.len() {
            let position = read_u32(&self.bytes, at + 8);
            let number = sequence.wrapping_add(position);
            self.bytes[at + 8..at + 12].copy_from_slice(&number.to_ne_bytes());
            at += aligned(read_u32(&self.bytes, at) as usize);
        }
        self.bytes
    }

    fn close(&mut self) {
        if self.messages > 0 {
            let length =
                u32::try_from(self.bytes.len() - self.start).expect("a message is far below 4 GiB");
            self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// One message of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// Port id of the socket whose request caused a notification.
    pub port: u32,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Splits a datagram into its messages; a broken tail is dropped.
    pub(crate) fn split(datagram: &'a [u8]) -> impl Iterator<Item = Message<'a>> {
        let mut rest = datagram;
        std::iter::from_fn(move || {
            if rest.len() < HEADER_BYTES {
                return None;
            }
            let length = read_u32(rest, 0) as usize;
            if length < HEADER_BYTES || length > rest.len() {
                return None;
            }
            let message = Message {
                kind: read_u16(rest, 4),
                flags: read_u16(rest, 6),
                sequence: read_u32(rest, 8),
                port: read_u32(rest, 12),
                payload: &rest[HEADER_BYTES..length],
            };
            rest = &rest[aligned(length).min(rest.len())..];
            Some(message)
        })
    }

    /// The attributes behind a fixed part of `fixed` bytes.
    pub fn attributes(&self, fixed: usize) -> Attributes<'a> {
        Attributes(self.payload.get(fixed..).unwrap_or_default())
    }
}

/// A list of attributes, read in order.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Type and value of each; a broken tail is dropped.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.len() < 4 {
                return None;
            }
            let length = usize::from(read_u16(rest, 0));
            if length < 4 || length > rest.len() {
                return None;
            }
            let attribute = (read_u16(rest, 2) & TYPE_MASK, &rest[4..length]);
            rest = &rest[aligned(length).min(rest.len())..];
            Some(attribute)
        })
    }

    /// The first attribute of this kind.
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    pub fn find_nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.find(kind).map(Attributes)
    }

    /// A text without its final zero.
    pub fn find_text(self, kind: u16) -> Option<&'a str> {
        let value = self.find(kind)?;
        std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
    }

    pub fn find_ne32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(
            self.find(kind)?.get(..4)?.try_into().ok()?,
        ))
    }

    pub fn find_be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(
            self.find(kind)?.get(..4)?.try_into().ok()?,
        ))
    }
}

pub(crate) fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
