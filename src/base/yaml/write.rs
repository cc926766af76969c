//! Writes objects as YAML in the form people know from kubectl: sorted keys, lists at the level of their key.

use std::fmt::Write as _;

use serde_json::Value;

use crate::Kind;

/// A key of more letters is marked by `?`: readers look no further than 1024 for the colon.
const KEY_BYTES_MAX: usize = 1000;

/// One document with a line break at its end.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => {
            mapping(&mut out, value, 0, Position::Line);
        }
        Value::Array(items) if !items.is_empty() => sequence(&mut out, value, 0, Position::Line),
        scalar => {
            inline(&mut out, scalar, 2);
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
        let key = plain_or_quoted(key);
        if key.len() > KEY_BYTES_MAX {
            out.push_str("? ");
            out.push_str(&key);
            out.push('\n');
            indent(out, depth);
        } else {
            out.push_str(&key);
        }
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
            .any(|letter| is_special(letter) && !matches!(letter, '\n' | '\t'))
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
        text.to_owned()
    } else if reads_as_other_type(text) || text.chars().any(is_special) {
        quoted(text)
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if is_special(letter) => {
                write!(out, "\\u{:04x}", u32::from(letter)).expect("a string grows");
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// What readers take for a line break, leave out or refuse.
fn is_special(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
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
        && !text.chars().any(is_special)
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !reads_as_other_type(text)
}

/// Whether some reader of YAML 1.1 would read a number, a truth value, a time or nothing.
fn reads_as_other_type(text: &str) -> bool {
    let lower = text.to_lowercase();
    let is_base_60 = lower.contains(':')
        && lower
            .split(':')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    Kind::of(text) != Kind::Text
        || Kind::of(&lower) != Kind::Text
        || is_base_60
        || is_time(text)
        || matches!(text, "<<" | "=")
        // Where a number may be larger than ours.
        || lower.parse::<f64>().is_ok() && lower.contains(|letter: char| letter.is_ascii_digit())
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
