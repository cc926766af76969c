//! Distinguished Encoding Rules (X.690), written from the inside out.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// One element: tag, length, content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        short @ 0..=0x7f => bytes.push(u8::try_from(short).unwrap_or(0x7f)),
        long => {
            let length = long.to_be_bytes();
            let significant: Vec<u8> = length
                .iter()
                .copied()
                .skip_while(|byte| *byte == 0)
                .collect();
            bytes.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            bytes.extend(significant);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

/// A set of one element: the only kind that names need, so no sorting is due.
pub(crate) fn set_of_one(part: &[u8]) -> Vec<u8> {
    element(SET, part)
}

/// A SET OF: its elements in ascending order of their encoding.
pub(crate) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    element(SET, &parts.concat())
}

/// A non-negative integer from big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = bytes
        .iter()
        .copied()
        .skip_while(|byte| *byte == 0)
        .collect();
    let mut content = Vec::with_capacity(significant.len() + 1);
    if significant.first().is_none_or(|first| first & 0x80 != 0) {
        content.push(0);
    }
    content.extend(significant);
    element(0x02, &content)
}

/// An object identifier from its dotted form.
pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted
        .split('.')
        .filter_map(|arc| arc.parse().ok())
        .collect();
    let mut content = Vec::new();
    if let [first, second, rest @ ..] = arcs.as_slice() {
        push_base128(&mut content, first * 40 + second);
        for arc in rest {
            push_base128(&mut content, *arc);
        }
    }
    element(0x06, &content)
}

fn push_base128(content: &mut Vec<u8>, arc: u64) {
    let mut groups = vec![u8::try_from(arc & 0x7f).unwrap_or(0)];
    let mut rest = arc >> 7;
    while rest > 0 {
        groups.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or(0));
        rest >>= 7;
    }
    content.extend(groups.into_iter().rev());
}

pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    bit_string_with_unused(bytes, 0)
}

pub(crate) fn bit_string_with_unused(bytes: &[u8], unused_bits: u8) -> Vec<u8> {
    element(0x03, &[&[unused_bits], bytes].concat())
}

pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    element(0x04, bytes)
}

pub(crate) fn utf8_string(text: &str) -> Vec<u8> {
    element(0x0c, text.as_bytes())
}

pub(crate) fn boolean_true() -> Vec<u8> {
    element(0x01, &[0xff])
}

/// `[number]`, explicit: around a whole element.
pub(crate) fn explicit(number: u8, inner: &[u8]) -> Vec<u8> {
    element(0xa0 | number, inner)
}

/// A time as RFC 5280 wants it: two-digit years until 2049.
pub(crate) fn time(moment: env::Timestamp) -> Vec<u8> {
    let text = moment.to_seconds_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let year: u32 = digits[..4].parse().unwrap_or(9999);
    if year < 2050 {
        element(0x17, format!("{}Z", &digits[2..]).as_bytes())
    } else {
        element(0x18, format!("{digits}Z").as_bytes())
    }
}
