//! What may not change.

use apimachinery::{FieldError, FieldErrors, FieldPath};
use serde::Serialize;
use serde_json::Value;

pub(crate) const IS_IMMUTABLE: &str = "field is immutable";

/// `new` must be `old`; the error shows the new value as its JSON.
pub(crate) fn immutable<T: PartialEq + Serialize>(
    errors: &mut FieldErrors,
    new: &T,
    old: &T,
    path: &FieldPath,
) {
    if new != old {
        errors.push(FieldError::invalid(path, json(new), IS_IMMUTABLE));
    }
}

/// A value as it stands in an error.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Value {
    apimachinery::to_tree(value).unwrap_or(Value::Null)
}

/// How two objects differ, line by line of their JSON, each change with three lines around it.
pub(crate) fn difference<T: Serialize>(old: &T, new: &T) -> String {
    let lines = |value: &T| -> Vec<String> {
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(
            &mut text,
            serde_json::ser::PrettyFormatter::with_indent(b" "),
        );
        match value.serialize(&mut serializer) {
            Ok(()) => String::from_utf8_lossy(&text)
                .lines()
                .map(str::to_owned)
                .collect(),
            Err(_) => Vec::new(),
        }
    };
    let (old, new) = (lines(old), lines(new));
    let start = old
        .iter()
        .zip(&new)
        .take_while(|(old, new)| old == new)
        .count();
    let rest = old.len().min(new.len()) - start;
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(old, new)| old == new)
        .count();
    let from = start.saturating_sub(CONTEXT_LINES);
    let after = end.min(CONTEXT_LINES);
    let mut text = format!(
        "@@ -{},{} +{},{} @@\n",
        from + 1,
        old.len() - end + after - from,
        from + 1,
        new.len() - end + after - from
    );
    let mut put = |sign: char, lines: &[String]| {
        for line in lines {
            text.push(sign);
            text.push_str(line);
            text.push('\n');
        }
    };
    put(' ', &old[from..start]);
    put('-', &old[start..old.len() - end]);
    put('+', &new[start..new.len() - end]);
    put(' ', &old[old.len() - end..old.len() - end + after]);
    text
}

const CONTEXT_LINES: usize = 3;
