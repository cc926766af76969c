//! Indented JSON, for people at the other end.

/// Indents JSON by two spaces, as Go does; the text itself stays as it is.
pub fn pretty_json(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut bytes = json.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if in_text {
            out.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                // What is empty stays on its line.
                match bytes.peek() {
                    Some(b'}' | b']') => {
                        out.extend(bytes.next());
                        depth -= 1;
                    }
                    _ => new_line(&mut out, depth),
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_text = byte == b'"';
                out.push(byte);
            }
        }
    }
    out
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', depth * 2));
}

#[cfg(test)]
mod tests {
    use super::pretty_json;

    #[test]
    fn json_is_indented_and_its_texts_are_left_alone() {
        assert_eq!(
            String::from_utf8(pretty_json(br#"{"b":[1,"a,\"{"],"a":{},"c":[]}"#)).unwrap(),
            "{\n  \"b\": [\n    1,\n    \"a,\\\"{\"\n  ],\n  \"a\": {},\n  \"c\": []\n}"
        );
    }
}
