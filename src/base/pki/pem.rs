//! PEM (RFC 7468), as much of it as certificates and keys need.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const LINE_LETTERS: usize = 64;

/// One PEM block with a final newline.
pub fn encode_pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(LINE_LETTERS) {
        pem.extend(line.iter().map(|&letter| char::from(letter)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// One block of a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PemBlock<'a> {
    pub(crate) label: &'a str,
    /// `None`: what stands in the block is no base64.
    pub(crate) der: Option<Vec<u8>>,
}

/// The contents of every block with this label, in order; text around the blocks is skipped, damaged blocks are left out.
pub fn decode_pem(label: &str, text: &str) -> Vec<Vec<u8>> {
    pem_blocks(text)
        .into_iter()
        .filter(|block| block.label == label)
        .filter_map(|block| block.der)
        .collect()
}

/// Every block that begins and ends, in order; text around the blocks is skipped.
pub(crate) fn pem_blocks(text: &str) -> Vec<PemBlock<'_>> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        rest = after;
        let Some((label, after)) = after.split_once("-----") else {
            break;
        };
        let end = format!("-----END {label}-----");
        let Some((body, after)) = after.split_once(end.as_str()) else {
            continue;
        };
        let letters: String = body
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .collect();
        let der = STANDARD.decode(letters).ok();
        blocks.push(PemBlock { label, der });
        rest = after;
    }
    blocks
}
