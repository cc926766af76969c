//! Regular expressions of schemas: Go's syntax, compiled once and only when a value comes by.

use std::sync::OnceLock;

use regex::Regex;

/// How much memory one compiled pattern may take, in bytes.
const PATTERN_SIZE_BYTES_MAX: usize = 1 << 20;

/// A pattern of a schema.
pub struct Pattern {
    text: String,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            compiled: OnceLock::new(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the text contains a match; the error says why the pattern cannot be compiled.
    pub fn matches(&self, text: &str) -> Result<bool, &str> {
        let compiled = self.compiled.get_or_init(|| {
            regex::RegexBuilder::new(&from_go(&self.text))
                .size_limit(PATTERN_SIZE_BYTES_MAX)
                .build()
                .map_err(|error| error.to_string())
        });
        compiled
            .as_ref()
            .map(|regex| regex.is_match(text))
            .map_err(String::as_str)
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self::new(&*self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.text)
    }
}

/// Rewrites what means something else in Go: its classes are ASCII, and inside brackets it knows no nesting and no
/// set operations.
fn from_go(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    let mut class_start = None;
    while let Some(character) = characters.next() {
        match (character, class_start) {
            ('\\', _) => match characters.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t\n\x0C\r ]"),
                Some('S') => out.push_str(r"[^\t\n\x0C\r ]"),
                Some('b') if class_start.is_none() => out.push_str(r"(?-u:\b)"),
                Some('B') if class_start.is_none() => out.push_str(r"\B"),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            ('[', None) => {
                out.push('[');
                if characters.peek() == Some(&'^') {
                    out.extend(characters.next());
                }
                class_start = Some(out.len());
            }
            ('[', Some(_)) if characters.peek() == Some(&':') => {
                // A POSIX class ends with `:]`.
                out.push('[');
                for inner in characters.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            (']', Some(start)) if out.len() == start => out.push_str(r"\]"),
            (']', Some(_)) => {
                out.push(']');
                class_start = None;
            }
            ('[' | '&' | '~', Some(_)) => out.extend(['\\', character]),
            (other, _) => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).matches(text).unwrap()
    }

    #[test]
    fn classes_are_ascii_and_brackets_are_flat_as_in_go() {
        assert!(matches(r"^\d+$", "12"));
        assert!(!matches(r"^\d+$", "١"));
        assert!(matches(r"^[\w.-]+$", "a_1.-"));
        assert!(matches("^[[a]+$", "[a"));
        assert!(matches("^[]a]+$", "]a"));
        assert!(matches("^[a&&b]+$", "a&b"));
        assert!(matches("^[[:alpha:]]+$", "ab"));
        assert!(matches("^[^/]+$", "ab"));
        assert!(Pattern::new("(").matches("").is_err());
    }
}
