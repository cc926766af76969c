//! What a scalar means: the rules of YAML 1.1 as Go's reader has them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use granit_parser::Tag;

/// Where YAML's own tags are: `!!int` is `int` of it.
const TAGS: &str = "tag:yaml.org,2002:";

#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// As it was written, without quotes and escapes.
    pub text: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    /// Perhaps none that JSON can write: infinite, or not a number.
    Float(f64),
    Text,
}

/// Whether quotes or a block mark it as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
}

impl Scalar {
    pub(crate) fn read(
        text: String,
        style: Style,
        tag: Option<&Tag>,
    ) -> Result<Self, &'static str> {
        let kind = match tag.map(meaning) {
            None if style == Style::Plain => Kind::of(&text),
            None | Some(Meaning::Own | Meaning::Text) => Kind::Text,
            Some(Meaning::Null) => match Kind::of(&text) {
                Kind::Null => Kind::Null,
                _ => return Err("its tag says that it is empty, which it is not"),
            },
            Some(Meaning::Binary) => {
                return decoded(&text).ok_or("its tag says base64 of a text, which it is not");
            }
            Some(Meaning::Bool) => match Kind::of(&text) {
                truth @ Kind::Bool(_) => truth,
                _ => return Err("its tag says true or false, which it is not"),
            },
            Some(Meaning::Integer) => match Kind::of(&text) {
                number @ (Kind::Unsigned(_) | Kind::Negative(_)) => number,
                _ => return Err("its tag says a whole number, which it is not"),
            },
            Some(Meaning::Float) => match Kind::of(&text) {
                number @ (Kind::Unsigned(_) | Kind::Negative(_) | Kind::Float(_)) => number,
                _ => return Err("its tag says a number, which it is not"),
            },
            Some(Meaning::Collection) => return Err("its tag says a list or a map"),
        };
        Ok(Self { text, kind })
    }

    /// Its name as a key of JSON, where `on`, `1` and `~` are texts too.
    pub fn name(&self) -> Cow<'_, str> {
        match self.kind {
            Kind::Text => Cow::Borrowed(&self.text),
            Kind::Null => Cow::Borrowed("null"),
            Kind::Bool(true) => Cow::Borrowed("true"),
            Kind::Bool(false) => Cow::Borrowed("false"),
            Kind::Unsigned(number) => Cow::Owned(number.to_string()),
            Kind::Negative(number) => Cow::Owned(number.to_string()),
            Kind::Float(number) => Cow::Owned(number.to_string()),
        }
    }
}

fn decoded(text: &str) -> Option<Scalar> {
    let letters: String = text.split_ascii_whitespace().collect();
    let text = String::from_utf8(STANDARD.decode(letters).ok()?).ok()?;
    Some(Scalar {
        text,
        kind: Kind::Text,
    })
}

/// What a tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Null,
    Bool,
    Integer,
    Float,
    Text,
    Binary,
    Collection,
    /// A program's own: what it says of a list or a map is unknown, and a single value is a text.
    Own,
}

fn meaning(tag: &Tag) -> Meaning {
    if tag
        .suffix_in_namespace("!")
        .is_some_and(|name| name.is_empty())
    {
        return Meaning::Text;
    }
    match tag.suffix_in_namespace(TAGS).as_deref() {
        Some("null") => Meaning::Null,
        Some("bool") => Meaning::Bool,
        Some("int") => Meaning::Integer,
        Some("float") => Meaning::Float,
        // A time is a text in JSON.
        Some("str" | "timestamp") => Meaning::Text,
        Some("binary") => Meaning::Binary,
        Some("seq" | "map") => Meaning::Collection,
        _ => Meaning::Own,
    }
}

/// Whether a tag may stand before a list or a map.
pub(crate) fn fits_collection(tag: Option<&Tag>) -> bool {
    matches!(
        tag.map(meaning),
        None | Some(Meaning::Own | Meaning::Collection)
    ) || tag.is_some_and(|tag| tag.suffix_in_namespace("!").is_some())
}

/// Whether a tag makes `<<` the key of what is merged.
pub(crate) fn fits_merge(tag: Option<&Tag>) -> bool {
    tag.is_none_or(|tag| tag.suffix_in_namespace(TAGS).as_deref() == Some("merge"))
}

impl Kind {
    /// The kind of a plain scalar.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                return Self::Bool(true);
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF" => return Self::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Self::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
                return Self::Float(f64::INFINITY);
            }
            "-.inf" | "-.Inf" | "-.INF" => return Self::Float(f64::NEG_INFINITY),
            _ => {}
        }
        match text.as_bytes()[0] {
            b'.' => float(text),
            b'0'..=b'9' | b'+' | b'-' => {
                let plain = text.replace('_', "");
                integer(&plain).or_else(|| float(&plain))
            }
            _ => None,
        }
        .unwrap_or(Self::Text)
    }
}

/// Also hexadecimal, octal (`0644` as well as `0o644`) and binary.
fn integer(text: &str) -> Option<Kind> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign would be read, too.
    if !digits.as_bytes().first()?.is_ascii_alphanumeric() {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    match is_negative {
        false => Some(Kind::Unsigned(size)),
        true if size == 0 => Some(Kind::Unsigned(0)),
        true => Some(Kind::Negative(0i64.checked_sub_unsigned(size)?)),
    }
}

fn float(text: &str) -> Option<Kind> {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = skip_digits(&mut rest);
    let part = rest.strip_prefix('.').map_or(0, |after| {
        rest = after;
        skip_digits(&mut rest)
    });
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        rest = after.strip_prefix(['-', '+']).unwrap_or(after);
        if skip_digits(&mut rest) == 0 {
            return None;
        }
    }
    if whole + part == 0 || !rest.is_empty() {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // One that is too large is a text, as it is to Go.
    number.is_finite().then_some(Kind::Float(number))
}

/// How many digits there were.
fn skip_digits(rest: &mut &str) -> usize {
    let after = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let count = rest.len() - after.len();
    *rest = after;
    count
}
