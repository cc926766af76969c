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

/// The contents of every block with this label, in order; text around the blocks is skipped, damaged blocks are left out.
pub fn decode_pem(label: &str, text: &str) -> Vec<Vec<u8>> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(begin.as_str()) {
        let Some((body, after)) = after.split_once(end.as_str()) else {
            break;
        };
        let letters: String = body
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .collect();
        if let Ok(der) = STANDARD.decode(letters) {
            blocks.push(der);
        }
        rest = after;
    }
    blocks
}
