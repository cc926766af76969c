//! JSON text as the client wrote it: key order, repeated keys and number literals are kept, depth and size are bounded.
//!
//! The messages are those of Go's scanner, since clients see them.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// The largest request body upstream accepts: 3 MiB.
pub const BODY_SIZE_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How deep arrays and objects may nest. Upstream allows 10,000; every reader of stored JSON here is recursive and
/// runs on small stacks, and `serde_json` itself stops at 128, of which lists and watch events need a few.
pub const JSON_DEPTH_MAX: usize = 120;

/// A JSON value that remembers how it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Document<'a> {
    Null,
    Bool(bool),
    /// The literal as it stands in the text.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Document<'a>>),
    /// Members in the order of the text; keys may repeat.
    Object(Vec<(Cow<'a, str>, Document<'a>)>),
}

impl<'a> Document<'a> {
    /// Reads a text that has to be exactly one JSON value.
    pub fn parse(text: &'a [u8]) -> Result<Self, SyntaxError> {
        if text.len() > BODY_SIZE_BYTES_MAX {
            return Err(SyntaxError::TooLarge);
        }
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
        };
        let value = parser.value("looking for beginning of value")?;
        parser.skip_space();
        match parser.peek() {
            None => Ok(value),
            Some(_) => Err(parser.unexpected("after top-level value")),
        }
    }

    /// The member with this key; of repeated keys the last.
    pub fn get(&self, key: &str) -> Option<&Document<'a>> {
        match self {
            Self::Object(members) => members
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// How Go's decoder names this sort of value in its errors.
    pub(crate) fn sort(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// The plain tree; of repeated keys the last wins. `None` for a number no `f64` can hold.
    pub fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(literal) => Value::Number(number(&literal)?),
            Self::String(text) => Value::String(text.into_owned()),
            Self::Array(items) => Value::Array(
                items
                    .into_iter()
                    .map(Self::into_value)
                    .collect::<Option<_>>()?,
            ),
            Self::Object(members) => {
                let mut map = Map::new();
                for (key, value) in members {
                    map.insert(key.into_owned(), value.into_value()?);
                }
                Value::Object(map)
            }
        })
    }
}

/// Reads a JSON text with its quotes: what it says. There may be something after it.
pub fn read_text(quoted: &str) -> Result<Cow<'_, str>, SyntaxError> {
    let mut parser = Parser {
        text: quoted.as_bytes(),
        at: 0,
        depth: 0,
    };
    parser.string()
}

impl<'a> From<&'a Value> for Document<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(Cow::Owned(number.to_string())),
            Value::String(text) => Self::String(Cow::Borrowed(text)),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(map) => Self::Object(
                map.iter()
                    .map(|(key, value)| (Cow::Borrowed(&**key), Self::from(value)))
                    .collect(),
            ),
        }
    }
}

/// The number Go would keep in an untyped field: an `int64` where the literal is one, else a `float64`, which is
/// written without a fraction when it has none.
#[allow(clippy::cast_possible_truncation)] // The range is checked.
pub(crate) fn number(literal: &str) -> Option<Number> {
    // Beyond this not every integer is an f64 of its own.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Ok(integer) = literal.parse::<i64>() {
        return Some(integer.into());
    }
    let float = literal
        .parse::<f64>()
        .ok()
        .filter(|float| float.is_finite())?;
    if float.fract() == 0.0 && float.abs() <= EXACT_MAX {
        return Some((float as i64).into());
    }
    Number::from_f64(float)
}

/// Why a text is no JSON that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    #[error("{0}")]
    Syntax(String),
    #[error("unexpected end of JSON input")]
    UnexpectedEnd,
    #[error("exceeded max depth")]
    TooDeep,
    #[error("request body too large: limit is {BODY_SIZE_BYTES_MAX} bytes")]
    TooLarge,
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, place: &str) -> SyntaxError {
        match self.peek() {
            None => SyntaxError::UnexpectedEnd,
            Some(byte) => {
                SyntaxError::Syntax(format!("invalid character {} {place}", quoted(byte)))
            }
        }
    }

    fn value(&mut self, place: &str) -> Result<Document<'a>, SyntaxError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok(Document::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Document::Bool(true)),
            Some(b'f') => self.literal("false", Document::Bool(false)),
            Some(b'n') => self.literal("null", Document::Null),
            _ => Err(self.unexpected(place)),
        }
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Document<'a>, SyntaxError>,
    ) -> Result<Document<'a>, SyntaxError> {
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX {
            return Err(SyntaxError::TooDeep);
        }
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Document<'a>, SyntaxError> {
        let mut members = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Document::Object(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            members.push((key, self.value("looking for beginning of value")?));
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Document::Object(members));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Document<'a>, SyntaxError> {
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Document::Array(items));
        }
        loop {
            items.push(self.value("looking for beginning of value")?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Document::Array(items));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn literal(&mut self, text: &str, value: Document<'a>) -> Result<Document<'a>, SyntaxError> {
        for expected in text.bytes() {
            if self.peek() != Some(expected) {
                let place = format!("in literal {text} (expecting {})", quoted(expected));
                return Err(self.unexpected(&place));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Document<'a>, SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.expect_digit("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.expect_digit("in exponent of numeric literal")?;
        }
        let literal = std::str::from_utf8(&self.text[start..self.at]).expect("digits are ASCII");
        Ok(Document::Number(Cow::Borrowed(literal)))
    }

    fn skip_digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn expect_digit(&mut self, place: &str) -> Result<(), SyntaxError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected(place));
        }
        self.skip_digits();
        Ok(())
    }

    /// Reads a string that begins here; bytes that are no UTF-8 become U+FFFD, as in Go.
    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        self.at += 1;
        let mut start = self.at;
        let mut read = String::new();
        loop {
            let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
            let rest = &self.text[self.at..];
            self.at += rest.iter().position(ends).unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => {
                    let rest = String::from_utf8_lossy(&self.text[start..self.at]);
                    self.at += 1;
                    if read.is_empty() {
                        return Ok(rest);
                    }
                    read.push_str(&rest);
                    return Ok(Cow::Owned(read));
                }
                Some(b'\\') => {
                    read.push_str(&String::from_utf8_lossy(&self.text[start..self.at]));
                    self.at += 1;
                    let escaped = self.escape()?;
                    read.push(escaped);
                    start = self.at;
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let escaped = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char, SyntaxError> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
            let after_first = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after_first;
        }
        // A surrogate alone is no character.
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        // Control characters beyond ASCII: Go writes them by number.
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Document::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn syntax_errors_have_the_words_of_gos_scanner() {
        assert_eq!(error("{"), "unexpected end of JSON input");
        assert_eq!(error(""), "unexpected end of JSON input");
        assert_eq!(
            error("{a:1}"),
            "invalid character 'a' looking for beginning of object key string"
        );
        assert_eq!(error("[1 2]"), "invalid character '2' after array element");
        assert_eq!(error("{} x"), "invalid character 'x' after top-level value");
        assert_eq!(
            error("nul!"),
            "invalid character '!' in literal null (expecting 'l')"
        );
        assert_eq!(
            error("\"a\nb\""),
            r"invalid character '\n' in string literal"
        );
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_stack() {
        let deep = "[".repeat(10_001) + &"]".repeat(10_001);
        assert_eq!(Document::parse(deep.as_bytes()), Err(SyntaxError::TooDeep));
    }

    #[test]
    fn escapes_and_broken_text_read_as_in_go() {
        let text = Document::parse(br#""a\u00e9\ud83d\ude00\ud800x\n""#).unwrap();
        assert_eq!(text.as_str(), Some("aé😀\u{fffd}x\n"));
        let text = Document::parse(b"\"\xff\"").unwrap();
        assert_eq!(text.as_str(), Some("\u{fffd}"));
    }

    #[test]
    fn numbers_without_fraction_are_integers() {
        let numbers = Document::parse(b"[1.0, 1e3, 0.5, 9223372036854775807]").unwrap();
        assert_eq!(
            numbers.into_value().unwrap().to_string(),
            "[1,1000,0.5,9223372036854775807]"
        );
    }
}
