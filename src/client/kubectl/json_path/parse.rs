//! Reads templates and paths.

use serde_json::Value;

use super::{Comparison, Node, Operand, Path, Step};

/// How deep `range` may nest.
const RANGES_MAX: usize = 32;

pub(super) fn template(text: &str) -> Result<Vec<Node>, String> {
    let mut open: Vec<(Path, Vec<Node>)> = vec![(Path::default(), Vec::new())];
    let mut rest = text;
    loop {
        let (before, after) = match rest.find('{') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, ""),
        };
        if !before.is_empty() {
            push(&mut open, Node::Text(before.to_owned()));
        }
        if before.len() == rest.len() {
            break;
        }
        let end = end_of_action(after).ok_or("unclosed action")?;
        action(after[..end].trim(), &mut open)?;
        rest = &after[end + 1..];
    }
    match (open.pop(), open.is_empty()) {
        (Some((_, nodes)), true) => Ok(nodes),
        _ => Err("unmatched range, missing {end}".to_owned()),
    }
}

fn push(open: &mut [(Path, Vec<Node>)], node: Node) {
    if let Some((_, nodes)) = open.last_mut() {
        nodes.push(node);
    }
}

/// Where the brace closes that is open at the beginning; quotes and brackets hide braces.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), character) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '}') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn action(text: &str, open: &mut Vec<(Path, Vec<Node>)>) -> Result<(), String> {
    if text == "end" {
        let (path, nodes) = open.pop().ok_or("not in range, nothing to end")?;
        if open.is_empty() {
            return Err("not in range, nothing to end".to_owned());
        }
        push(open, Node::Range(path, nodes));
        return Ok(());
    }
    if let Some(of) = text.strip_prefix("range ") {
        if open.len() > RANGES_MAX {
            return Err(format!("more than {RANGES_MAX} nested ranges"));
        }
        open.push((path(of.trim())?, Vec::new()));
        return Ok(());
    }
    let mut rest = text;
    while !rest.is_empty() {
        let end = end_of_word(rest);
        let (word, after) = rest.split_at(end);
        push(
            open,
            match unquote(word) {
                Some(text) => Node::Text(text),
                None if word.starts_with(['.', '[', '$', '@']) => Node::Path(path(word)?),
                None => return Err(format!("unrecognized identifier {word}")),
            },
        );
        rest = after.trim_start();
    }
    Ok(())
}

/// Where a word ends: at a space outside of quotes and brackets, or where a quoted text ends.
fn end_of_word(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), character) if open == character => {
                quote = None;
                if depth == 0 {
                    return at + 1;
                }
            }
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') => depth = depth.saturating_sub(1),
            (None, ' ') if depth == 0 => return at,
            (None, _) => {}
        }
    }
    text.len()
}

/// The text within quotes, with its escapes read.
fn unquote(word: &str) -> Option<String> {
    let quote = word
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))?;
    let inner = word.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => text.push(other),
        }
    }
    Some(text)
}

pub(super) fn path(text: &str) -> Result<Path, String> {
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '$' => steps.push(Step::Root),
            '@' => {}
            '.' if rest.starts_with('.') => {
                steps.push(Step::Recursive);
            }
            '.' if rest.starts_with('[') || rest.is_empty() => {}
            '.' => {
                let (name, after) = field(rest);
                rest = after;
                steps.push(if name == "*" {
                    Step::Wildcard
                } else {
                    Step::Field(name)
                });
            }
            '[' => {
                let end = end_of_bracket(rest).ok_or("unterminated array")?;
                steps.push(bracket(rest[..end].trim())?);
                rest = &rest[end + 1..];
            }
            other => return Err(format!("unexpected {other:?} in path {text:?}")),
        }
    }
    Ok(Path(steps))
}

/// A name up to the next `.` or `[`; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, next)| next)),
            '.' | '[' => return (name, &text[at..]),
            other => name.push(other),
        }
    }
    (name, "")
}

fn end_of_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), character) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    if let Some(condition) = text
        .strip_prefix("?(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        return filter(condition);
    }
    let parts = split_outside_quotes(text, ',');
    if parts.len() > 1 {
        let paths = parts
            .iter()
            .map(|part| Ok(Path(vec![bracket(part.trim())?])));
        return Ok(Step::Union(paths.collect::<Result<_, String>>()?));
    }
    if let Some(key) = quoted_key(text) {
        return Ok(Step::Union(vec![path(&format!(".{key}"))?]));
    }
    let number = |text: &str| -> Result<Option<i64>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| format!("invalid array index {text}"))
    };
    let bounds: Vec<&str> = text.split(':').collect();
    match bounds.as_slice() {
        [index] => number(index)?
            .map(Step::Index)
            .ok_or_else(|| "invalid array index".to_owned()),
        [start, end] => Ok(Step::Slice(number(start)?, number(end)?, 1)),
        [start, end, step] => Ok(Step::Slice(
            number(start)?,
            number(end)?,
            number(step)?.unwrap_or(1),
        )),
        _ => Err(format!("invalid array index {text}")),
    }
}

fn quoted_key(text: &str) -> Option<&str> {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut quote = None;
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), character) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, character) if character == separator => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            (None, _) => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

fn filter(condition: &str) -> Result<Step, String> {
    let found = COMPARISONS
        .iter()
        .filter_map(|(sign, comparison)| {
            Some((find_outside_quotes(condition, sign)?, sign, *comparison))
        })
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    match found {
        None => Ok(Step::Filter(operand(condition.trim())?, None)),
        Some((at, sign, comparison)) => {
            let left = operand(condition[..at].trim())?;
            let right = operand(condition[at + sign.len()..].trim())?;
            Ok(Step::Filter(left, Some((comparison, right))))
        }
    }
}

fn find_outside_quotes(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), character) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) if text[at..].starts_with(wanted) => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn operand(text: &str) -> Result<Operand, String> {
    if let Some(text) = unquote(text) {
        return Ok(Operand::Literal(Value::String(text)));
    }
    if text.starts_with(['@', '$', '.']) {
        return path(text).map(Operand::Path);
    }
    let literal = serde_json::from_str(text);
    literal
        .map(Operand::Literal)
        .map_err(|_| format!("unrecognized operand {text:?}"))
}
