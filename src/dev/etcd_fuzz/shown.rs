//! Steps and differences as text that can be read: without what is as it always is, and keys as text.

/// Characters of one text that are shown.
const SHOWN_CHARACTERS_MAX: usize = 8000;

/// Fields that say nothing.
const DEFAULTS: &[&str] = &[
    ": []", ": 0", ": false", ": None", ": \"\"", ": Key", ": Put",
];
/// Words around what matters.
const FRAMES: &[(&str, &str)] = &[
    ("RequestOp { request: Some(", "Op("),
    ("ResponseOp { response: Some(", "Op("),
    ("ResponseHeader { revision: ", "Revision { "),
    ("TxnRequest(", "("),
];

pub(crate) fn short(text: &str) -> String {
    let mut text = with_words(text);
    for (frame, short) in FRAMES {
        text = text.replace(frame, short);
    }
    let text = without_defaults(&text);
    if text.len() <= SHOWN_CHARACTERS_MAX {
        return text;
    }
    let shown = text.chars().take(SHOWN_CHARACTERS_MAX);
    shown.chain("…".chars()).collect()
}

/// Lists of bytes as text.
fn with_words(text: &str) -> String {
    let mut parts = text.split('[');
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let bytes = part.split_once(']').and_then(|(list, rest)| {
            let bytes: Option<Vec<u8>> = list.split(", ").map(|byte| byte.parse().ok()).collect();
            Some((bytes?, rest))
        });
        match bytes {
            Some((bytes, rest)) if bytes.len() > 64 => {
                short += &format!("({} × {}){rest}", bytes[0], bytes.len());
            }
            Some((bytes, rest)) => short += &format!("\"{}\"{rest}", bytes.escape_ascii()),
            None => short += &format!("[{part}"),
        }
    }
    short
}

fn without_defaults(text: &str) -> String {
    let mut short = String::new();
    for field in text.split_inclusive([',', '{', '}']) {
        let (content, end) =
            field.split_at(field.len() - usize::from(field.ends_with([',', '{', '}'])));
        let is_default = DEFAULTS
            .iter()
            .any(|default| content.trim_end().ends_with(default));
        // The last field of a structure may be left out, but not its end.
        if !is_default {
            short += content;
            short += end;
        } else if end == "}" {
            short += end;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_always_is_left_out() {
        let text = "Put(PutRequest { key: [97, 255], value: [], lease: 0, prev_kv: true, ignore_lease: false })";
        assert_eq!(
            short(text),
            "Put(PutRequest { key: \"a\\xff\", prev_kv: true,})"
        );
    }
}
