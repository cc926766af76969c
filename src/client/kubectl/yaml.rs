//! Writes objects as YAML in the form people know from kubectl: sorted keys, lists at the level of their key.

use std::fmt::Write as _;

use serde_json::Value;

/// One document with a line break at its end.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => {
            mapping(&mut out, value, 0, Position::Line);
        }
        Value::Array(items) if !items.is_empty() => sequence(&mut out, value, 0, Position::Line),
        scalar => {
            inline(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

/// Where writing stands: at the beginning of a line, or behind a dash.
#[derive(Clone, Copy, PartialEq)]
enum Position {
    Line,
    Dash,
}

fn indent(out: &mut String, spaces: usize) {
    out.extend(std::iter::repeat_n(' ', spaces));
}

fn mapping(out: &mut String, value: &Value, depth: usize, position: Position) {
    let members = value.as_object().into_iter().flatten();
    for (index, (key, value)) in members.enumerate() {
        if index > 0 || position == Position::Line {
            indent(out, depth);
        }
        out.push_str(&plain_or_quoted(key));
        out.push(':');
        match value {
            Value::Object(members) if !members.is_empty() => {
                out.push('\n');
                mapping(out, value, depth + 2, Position::Line);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, value, depth, Position::Line);
            }
            scalar => {
                out.push(' ');
                inline(out, scalar, depth + 2);
                out.push('\n');
            }
        }
    }
}

fn sequence(out: &mut String, value: &Value, depth: usize, position: Position) {
    let items = value.as_array().into_iter().flatten();
    for (index, item) in items.enumerate() {
        if index > 0 || position == Position::Line {
            indent(out, depth);
        }
        out.push_str("- ");
        match item {
            Value::Object(members) if !members.is_empty() => {
                mapping(out, item, depth + 2, Position::Dash);
            }
            Value::Array(items) if !items.is_empty() => {
                sequence(out, item, depth + 2, Position::Dash);
            }
            scalar => {
                inline(out, scalar, depth + 2);
                out.push('\n');
            }
        }
    }
}

fn inline(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        Value::String(text) if is_block(text) => block(out, text, depth),
        Value::String(text) => out.push_str(&plain_or_quoted(text)),
        other => write!(out, "{other}").expect("writing to a string does not fail"),
    }
}

/// Text of several lines that can stand as it is.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && !text
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\n' | '\t'))
        && !text.split('\n').any(|line| line.ends_with([' ', '\t']))
}

fn block(out: &mut String, text: &str, depth: usize) {
    let (body, chomp) = match text.strip_suffix('\n') {
        None => (text, "|-"),
        Some(body) if body.ends_with('\n') => (body, "|+"),
        Some(body) => (body, "|"),
    };
    out.push_str(chomp);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
    }
}

fn plain_or_quoted(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let has_special = text.chars().any(char::is_control);
    if reads_as_other_type(text) || has_special {
        let quoted = serde_json::to_string(text).expect("a text can be written as JSON");
        return quoted;
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether a YAML reader takes the text for itself.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else {
        return false;
    };
    let starts_well = match first {
        '-' | '?' | ':' => text
            .chars()
            .nth(1)
            .is_some_and(|second| !second.is_whitespace() && text.len() > 1),
        other => !",[]{}#&*!|>'\"%@` ".contains(other),
    };
    starts_well
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(char::is_control)
        && !text.starts_with("---")
        && !reads_as_other_type(text)
}

/// Whether YAML 1.1 would read a number, a truth value, a time or nothing.
fn reads_as_other_type(text: &str) -> bool {
    const WORDS: [&str; 12] = [
        "", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan",
    ];
    let lower = text.to_lowercase();
    if WORDS.contains(&lower.as_str()) || lower == "<<" || lower == "=" {
        return true;
    }
    let digits = lower.trim_start_matches(['+', '-']).replace('_', "");
    if digits == ".inf" {
        return true;
    }
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && (digits.parse::<f64>().is_ok()
            || digits
                .strip_prefix("0x")
                .is_some_and(|hex| i128::from_str_radix(hex, 16).is_ok())
            || digits
                .strip_prefix("0b")
                .is_some_and(|bits| i128::from_str_radix(bits, 2).is_ok())
            || digits
                .strip_prefix("0o")
                .is_some_and(|octal| i128::from_str_radix(octal, 8).is_ok()));
    let is_base_60 = lower.contains(':')
        && lower
            .split(':')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_number || is_base_60 || is_time(text)
}

/// `2026-01-02` or a time of that day.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    date && (bytes.len() == 10 || matches!(bytes[10], b'T' | b't' | b' '))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_looks_as_people_know_it_and_reads_back_as_the_same() {
        let object = json!({
            "a": [{"b": 1, "c": [[1, 2], []]}, "x"], "d": {}, "e": "yes", "f": "1", "g": "l1\nl2\n",
            "h": "a: b", "i": "2026-01-02T03:04:05Z", "j": "", "k": null, "l": "- x", "m": "it's: ", "n": "-x",
            "o": " lead", "p": "tab\there", "q": "l1\n l2", "0": "*"
        });
        let text = write(&object);
        assert_eq!(
            text,
            "\"0\": '*'\na:\n- b: 1\n  c:\n  - - 1\n    - 2\n  - []\n- x\nd: {}\ne: \"yes\"\nf: \"1\"\n\
             g: |\n  l1\n  l2\nh: 'a: b'\ni: \"2026-01-02T03:04:05Z\"\nj: \"\"\nk: null\nl: '- x'\n\
             m: 'it''s: '\n\"n\": -x\no: ' lead'\np: \"tab\\there\"\nq: |-\n  l1\n   l2\n"
        );
        let read = codec::parse_yaml(text.as_bytes()).expect("YAML");
        assert_eq!(read.document.into_value().expect("a tree"), object);
    }
}
