//! Keys, ranges and values: few enough that requests meet on them.

use fastrand::Rng;

/// Groups of keys with a common beginning.
const GROUPS: &[&str] = &["a", "b", "b/", "k/x/", "k/y/"];
/// Keys of a group.
const MEMBERS: u8 = 8;
/// Keys that borders of ranges get wrong.
const ODD_KEYS: &[&[u8]] = &[
    b"\0",
    b"a\0",
    b"\xff",
    b"\xff\xff",
    b"b\xff",
    b"k",
    b"k0",
    b"z",
];
const SMALL_VALUES: &[&[u8]] = &[b"", b"0", b"1", b"2", b"\0", b"\xff", b"10", b"value"];
/// Bytes of the usual larger value.
const VALUE_BYTES: usize = 1024;
/// Bytes of a rare value, of which two do not fit into one request.
const LARGE_VALUE_BYTES: usize = 900 << 10;

pub(crate) fn key(rng: &mut Rng) -> Vec<u8> {
    if rng.u8(..) < 16 {
        return ODD_KEYS[rng.usize(..ODD_KEYS.len())].to_vec();
    }
    let group = GROUPS[rng.usize(..GROUPS.len())];
    let member = rng.u8(..=MEMBERS);
    if member == MEMBERS {
        return group.as_bytes().to_vec();
    }
    [group.as_bytes(), &[b'0' + member]].concat()
}

/// A key, or rarely none.
pub(crate) fn key_or_none(rng: &mut Rng) -> Vec<u8> {
    if rng.u8(..) == 0 {
        Vec::new()
    } else {
        key(rng)
    }
}

/// The end of a range that begins with a key; usually none.
pub(crate) fn end(rng: &mut Rng, start: &[u8]) -> Vec<u8> {
    match rng.u8(..16) {
        0..=7 => Vec::new(),
        8..=11 => after_prefix(start),
        12 => vec![0],
        13 => key(rng),
        14 => [start, &[0]].concat(),
        _ => start.to_vec(),
    }
}

/// A start and an end of a range of many keys.
pub(crate) fn wide(rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
    match rng.u8(..8) {
        0 => (vec![0], vec![0]),
        1 => (key(rng), vec![0]),
        2..=4 => {
            let group = GROUPS[rng.usize(..GROUPS.len())].as_bytes().to_vec();
            let end = after_prefix(&group);
            (group, end)
        }
        _ => (key(rng), key(rng)),
    }
}

fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

pub(crate) fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.u16(..) {
        0..=1 => vec![rng.u8(..); LARGE_VALUE_BYTES],
        2..=4000 => vec![rng.u8(..); rng.usize(..VALUE_BYTES)],
        _ => small_value(rng),
    }
}

pub(crate) fn small_value(rng: &mut Rng) -> Vec<u8> {
    SMALL_VALUES[rng.usize(..SMALL_VALUES.len())].to_vec()
}
