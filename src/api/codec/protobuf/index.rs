//! Where the values of a JSON text stand: one flat list, made in one pass over the bytes, in place of a tree.
//!
//! A list that was filled once is filled again without allocating, and texts stay where they are.

use std::borrow::Cow;
use std::ops::Range;

use schema::{Document, JSON_DEPTH_MAX, read_text};

use super::ProtobufError;

/// The longest text whose places fit into the index.
const JSON_BYTES_MAX: usize = u32::MAX as usize;

/// A value of an indexed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At(u32);

impl At {
    /// What is not there: it reads as `null`.
    pub(super) const ABSENT: Self = Self(0);
    const ROOT: Self = Self(1);

    fn new(place: usize) -> Self {
        Self(u32::try_from(place).expect("a text has no more values than bytes"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Null,
    False,
    True,
    Number,
    Text,
    /// A text that is written with escapes.
    EscapedText,
    Array,
    Object,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the value stands in the text; of a text what is between its quotes.
    start: u32,
    end: u32,
    /// The entry after this value and all that is in it.
    next: u32,
    sort: Sort,
    /// Whether the value is written as we write JSON: no space, no needless escape.
    is_plain: bool,
}

/// The places of the values of one text after another.
#[derive(Debug, Default)]
pub(super) struct Index(Vec<Entry>);

impl Index {
    /// Reads a text that has to be exactly one JSON value.
    pub(super) fn read<'a>(&'a mut self, text: &'a str) -> Result<Json<'a>, ProtobufError> {
        let refused = || {
            // There is one reader that knows Go's words for what is wrong.
            let words = Document::parse(text.as_bytes()).map_or_else(
                |error| error.to_string(),
                |_| format!("more than {JSON_BYTES_MAX} bytes"),
            );
            ProtobufError::NoJson(words)
        };
        if text.len() > JSON_BYTES_MAX {
            return Err(refused());
        }
        self.0.clear();
        let mut scanner = Scanner {
            text: text.as_bytes(),
            at: 0,
            depth: 0,
            blemishes: 0,
            entries: &mut self.0,
        };
        scanner.push(Sort::Null, 0..0, true);
        scanner.whole().ok_or_else(refused)?;
        Ok(Json {
            text,
            entries: &self.0,
        })
    }
}

/// An indexed text.
#[derive(Clone, Copy)]
pub(super) struct Json<'a> {
    text: &'a str,
    entries: &'a [Entry],
}

impl<'a> Json<'a> {
    pub(super) fn root(self) -> At {
        At::ROOT
    }

    fn entry(self, at: At) -> Entry {
        self.entries[at.0 as usize]
    }

    pub(super) fn sort(self, at: At) -> Sort {
        self.entry(at).sort
    }

    pub(super) fn is_null(self, at: At) -> bool {
        self.sort(at) == Sort::Null
    }

    /// A number's literal.
    pub(super) fn literal(self, at: At) -> &'a str {
        let entry = self.entry(at);
        &self.text[entry.start as usize..entry.end as usize]
    }

    /// What a text says.
    pub(super) fn text(self, at: At) -> Cow<'a, str> {
        let entry = self.entry(at);
        match entry.sort {
            Sort::EscapedText => read_text(self.quoted(entry)).expect("the scanner checked it"),
            _ => Cow::Borrowed(self.literal(at)),
        }
    }

    fn quoted(self, entry: Entry) -> &'a str {
        &self.text[(entry.start as usize - 1)..=(entry.end as usize)]
    }

    /// The items of an array.
    pub(super) fn items(self, array: At) -> impl Iterator<Item = At> {
        let (first, end) = (array.0 + 1, self.entry(array).next);
        let within = move |at: &At| at.0 < end;
        let after = move |at: &At| Some(At(self.entry(*at).next)).filter(within);
        std::iter::successors(Some(At(first)).filter(within), after)
    }

    /// The keys of an object, in the order of the text.
    pub(super) fn keys(self, object: At) -> impl Iterator<Item = At> {
        self.items(object).step_by(2)
    }

    /// What stands under a key.
    pub(super) fn value_of(self, key: At) -> At {
        At(key.0 + 1)
    }

    /// A value as JSON, in the order it was written in.
    pub(super) fn raw(self, at: At) -> Cow<'a, str> {
        let entry = self.entry(at);
        if entry.is_plain && matches!(entry.sort, Sort::Text | Sort::EscapedText) {
            return Cow::Borrowed(self.quoted(entry));
        }
        if entry.is_plain {
            return Cow::Borrowed(self.literal(at));
        }
        let mut out = String::with_capacity((entry.end - entry.start) as usize);
        self.write(at, &mut out);
        Cow::Owned(out)
    }

    fn write(self, at: At, out: &mut String) {
        match self.sort(at) {
            Sort::Array => {
                out.push('[');
                for (index, item) in self.items(at).enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.write(item, out);
                }
                out.push(']');
            }
            Sort::Object => {
                out.push('{');
                for (index, key) in self.keys(at).enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.write(key, out);
                    out.push(':');
                    self.write(self.value_of(key), out);
                }
                out.push('}');
            }
            Sort::EscapedText => {
                let text = serde_json::to_string(&self.text(at));
                out.push_str(&text.expect("text is always JSON"));
            }
            _ => out.push_str(&self.raw(at)),
        }
    }
}

/// Goes over a text once; `None` is a text that is no JSON.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// Spaces and needless escapes so far.
    blemishes: usize,
    entries: &'a mut Vec<Entry>,
}

impl Scanner<'_> {
    fn whole(&mut self) -> Option<()> {
        self.value()?;
        self.skip_space();
        (self.at == self.text.len()).then_some(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
            self.blemishes += 1;
        }
    }

    fn push(&mut self, sort: Sort, place: Range<usize>, is_plain: bool) {
        let narrow = |place| u32::try_from(place).expect("the text's length was checked");
        self.entries.push(Entry {
            start: narrow(place.start),
            end: narrow(place.end),
            next: At::new(self.entries.len() + 1).0,
            sort,
            is_plain,
        });
    }

    fn value(&mut self) -> Option<()> {
        self.skip_space();
        match self.peek()? {
            b'{' => self.nested(Sort::Object, b'}', Self::member),
            b'[' => self.nested(Sort::Array, b']', Self::value),
            b'"' => self.string(),
            b't' => self.word(b"true", Sort::True),
            b'f' => self.word(b"false", Sort::False),
            b'n' => self.word(b"null", Sort::Null),
            _ => self.number(),
        }
    }

    fn nested(
        &mut self,
        sort: Sort,
        close: u8,
        read: impl Fn(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX {
            return None;
        }
        let (own, blemishes) = (self.entries.len(), self.blemishes);
        self.push(sort, self.at..self.at, true);
        self.at += 1;
        self.skip_space();
        let mut is_open = self.peek()? != close;
        while is_open {
            read(self)?;
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == close => is_open = false,
                _ => return None,
            }
        }
        self.at += 1;
        self.depth -= 1;
        let next = At::new(self.entries.len()).0;
        let entry = &mut self.entries[own];
        entry.end = u32::try_from(self.at).expect("the text's length was checked");
        entry.next = next;
        entry.is_plain = self.blemishes == blemishes;
        Some(())
    }

    fn member(&mut self) -> Option<()> {
        self.skip_space();
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        self.skip_space();
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        self.value()
    }

    fn word(&mut self, word: &[u8], sort: Sort) -> Option<()> {
        if !self.text[self.at..].starts_with(word) {
            return None;
        }
        self.push(sort, self.at..self.at + word.len(), true);
        self.at += word.len();
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        let literal = &rest[..length];
        let is_small = matches!(literal, [b'1'..=b'9' | b'0', rest @ ..]
            if rest.iter().all(u8::is_ascii_digit) && (rest.is_empty() || literal[0] != b'0'));
        if !is_small && !matches!(Document::parse(literal), Ok(Document::Number(_))) {
            return None;
        }
        self.push(Sort::Number, self.at..self.at + length, true);
        self.at += length;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        let (start, blemishes) = (self.at, self.blemishes);
        let mut sort = Sort::Text;
        loop {
            self.at += plain_length(&self.text[self.at..]);
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    sort = Sort::EscapedText;
                    self.escape()?;
                }
                _ => return None,
            }
        }
        self.push(sort, start..self.at, self.blemishes == blemishes);
        self.at += 1;
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        let rest = &self.text[self.at + 1..];
        self.at += match rest.first()? {
            b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'/' => {
                self.blemishes += 1;
                2
            }
            b'u' if rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => {
                // Most of what can be written like this is written as it is.
                self.blemishes += 1;
                6
            }
            _ => return None,
        };
        Some(())
    }
}

/// How many bytes come before a quote, a backslash or a control character.
fn plain_length(text: &[u8]) -> usize {
    // Long texts thirty-two bytes at a time: all of them are looked at, which needs no jumps.
    let (chunks, _) = text.as_chunks::<32>();
    let end = |byte: u8| u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte < 0x20);
    let is_plain = |chunk: &&[u8; 32]| chunk.iter().fold(0, |any, byte| any | end(*byte)) == 0;
    let plain = chunks.iter().take_while(is_plain).count() * 32;
    plain + short_plain_length(&text[plain..])
}

/// The same, eight bytes at a time.
fn short_plain_length(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    // Marks the bytes that are 0 after the subtraction, and perhaps some above the lowest of them.
    let below = |chunk: u64, limit: u64| chunk.wrapping_sub(ONES * limit) & !chunk & HIGHS;
    let (chunks, rest) = text.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let chunk = u64::from_le_bytes(*chunk);
        let found = below(chunk ^ (ONES * u64::from(b'"')), 1)
            | below(chunk ^ (ONES * u64::from(b'\\')), 1)
            | below(chunk, 0x20);
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    chunks.len() * 8 + rest.iter().position(ends).unwrap_or(rest.len())
}
