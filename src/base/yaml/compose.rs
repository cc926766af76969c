//! From the parser's events to a tree: aliases and merges are put in place, within limits.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::error::place;
use crate::scalar::{Style, fits_collection, fits_merge};
use crate::{Entry, Fault, Node, Place, Scalar, SyntaxError, Value};

/// Lists and maps in each other.
pub const DEPTH_MAX: usize = 120;
/// Far more than an object of the largest size has; counts what aliases repeat.
const NODES_MAX: usize = 250_000;
/// The text that anchors and aliases repeat.
const COPIED_BYTES_MAX: usize = 16 << 20;

/// The tree of a text of one document; `None` if there is none.
pub fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut composer = Composer::new(text);
    let Some(tree) = composer.document()? else {
        return Ok(None);
    };
    match composer.next()? {
        (Event::StreamEnd, _) => Ok(Some(tree)),
        (_, span) => Err(SyntaxError::new(
            place(&span.start),
            "one document is meant, and a second begins",
        )),
    }
}

/// The tree of the first document of a text; what follows it is not looked at.
pub fn parse_first(text: &str) -> Result<Option<Node>, SyntaxError> {
    Composer::new(text).document()
}

struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    copied_bytes: usize,
}

/// What stands behind a key, or `<<`.
enum Key {
    Own(Scalar),
    Merge,
}

impl<'a> Composer<'a> {
    fn new(text: &'a str) -> Self {
        let options = granit_parser::options! {
            emit_comments: false,
            // One more than is read, so that what is too deep is told by one rule.
            flow_nesting_limit: DEPTH_MAX + 2,
            block_nesting_limit: DEPTH_MAX + 2,
            block_scalar_eof_without_line_feed: true,
        };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            anchors: HashMap::new(),
            nodes: 0,
            copied_bytes: 0,
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        match self.parser.next_event() {
            Some(event) => Ok(event?),
            None => Err(SyntaxError::new(Place::default(), "unexpected end")),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, SyntaxError> {
        loop {
            match self.next()? {
                (Event::StreamStart, _) => {}
                (Event::DocumentStart(..), _) => break,
                _ => return Ok(None),
            }
        }
        let (event, span) = self.next()?;
        let tree = self.node(event, span, 0)?;
        self.next()?;
        Ok(Some(tree))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let place = place(&span.start);
        if depth > DEPTH_MAX {
            let fault = Fault::TooDeep;
            return Err(SyntaxError { fault, place });
        }
        self.count(1, place)?;
        let (anchor, value) = match event {
            Event::Alias(id) => return self.repeated(id, place),
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = scalar(text, style, tag.as_deref(), place)?;
                (anchor, Value::Scalar(scalar))
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_collection(tag.as_deref(), place)?;
                (anchor, Value::List(self.list(depth)?))
            }
            Event::MappingStart(_, anchor, tag) => {
                check_collection(tag.as_deref(), place)?;
                (anchor, Value::Map(self.map(depth)?))
            }
            _ => return Err(SyntaxError::new(place, "a value is missing")),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.copy(&node, place)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let place = place(&span.start);
            let key = self.key(event, span, depth)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match key {
                Key::Own(key) => entries.push(Entry { key, place, value }),
                Key::Merge => merged.extend(entries_of(value)?),
            }
        }
        if !merged.is_empty() {
            merge(&mut entries, merged);
        }
        Ok(entries)
    }

    fn key(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Key, SyntaxError> {
        let place = place(&span.start);
        if let Event::Scalar(text, ScalarStyle::Plain, 0, tag) = &event
            && text == "<<"
            && fits_merge(tag.as_deref())
        {
            return Ok(Key::Merge);
        }
        match self.node(event, span, depth + 1)?.value {
            Value::Scalar(scalar) => Ok(Key::Own(scalar)),
            _ => Err(SyntaxError::new(place, "a key is a list or a map")),
        }
    }

    fn repeated(&mut self, id: usize, place: Place) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.remove(&id) else {
            let why = "an alias stands inside of what it repeats";
            return Err(SyntaxError::new(place, why));
        };
        self.copy(&node, place)?;
        let copy = node.clone();
        self.anchors.insert(id, node);
        Ok(copy)
    }

    /// Checks before a copy is made that it is within the limits.
    fn copy(&mut self, node: &Node, place: Place) -> Result<(), SyntaxError> {
        self.count(1, place)?;
        match &node.value {
            Value::Scalar(scalar) => self.count_text(scalar, place),
            Value::List(items) => (items.iter()).try_for_each(|item| self.copy(item, place)),
            Value::Map(entries) => entries.iter().try_for_each(|entry| {
                self.count_text(&entry.key, place)?;
                self.copy(&entry.value, place)
            }),
        }
    }

    fn count_text(&mut self, scalar: &Scalar, place: Place) -> Result<(), SyntaxError> {
        self.copied_bytes += scalar.text.len();
        if self.copied_bytes > COPIED_BYTES_MAX {
            let why = format!("aliases repeat more than {COPIED_BYTES_MAX} bytes");
            return Err(SyntaxError::new(place, why));
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let why = format!("there are more than {NODES_MAX} values, with those of aliases");
            return Err(SyntaxError::new(place, why));
        }
        Ok(())
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    place: Place,
) -> Result<Scalar, SyntaxError> {
    let style = match style {
        ScalarStyle::Plain => Style::Plain,
        _ => Style::Quoted,
    };
    Scalar::read(text.into_owned(), style, tag).map_err(|why| SyntaxError::new(place, why))
}

fn check_collection(tag: Option<&Tag>, place: Place) -> Result<(), SyntaxError> {
    if fits_collection(tag) {
        return Ok(());
    }
    Err(SyntaxError::new(
        place,
        "its tag says a single value, and it is a list or a map",
    ))
}

/// What `<<` brings into a map: the entries of one map or of several, of which the first wins.
fn entries_of(value: Node) -> Result<Vec<Entry>, SyntaxError> {
    let wrong = |place| {
        SyntaxError::new(
            place,
            "map merge requires map or sequence of maps as the value",
        )
    };
    match value.value {
        Value::Map(entries) => Ok(entries),
        Value::List(maps) => {
            let mut all = Vec::new();
            for map in maps {
                match map.value {
                    Value::Map(entries) => all.extend(entries),
                    _ => return Err(wrong(map.place)),
                }
            }
            Ok(all)
        }
        Value::Scalar(_) => Err(wrong(value.place)),
    }
}

/// What a map says itself wins over what is merged into it.
fn merge(entries: &mut Vec<Entry>, merged: Vec<Entry>) {
    let name = |entry: &Entry| entry.key.name().into_owned();
    let mut names: HashSet<String> = entries.iter().map(name).collect();
    entries.extend(merged.into_iter().filter(|entry| names.insert(name(entry))));
}
