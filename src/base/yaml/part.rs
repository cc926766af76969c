//! For readers of settings: a part of a tree with the keys that lead to it, so that an error says where and what.

use std::collections::HashSet;

use crate::{Kind, Node, Value};

/// What is wrong in a tree, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", self.place())]
pub struct Wrong {
    pub line: u32,
    /// As in `mirrors.docker.io.endpoint`; empty for the whole document.
    pub keys: String,
    pub why: String,
}

impl Wrong {
    /// As in `line 3: mirrors.a.endpoint`.
    pub fn place(&self) -> String {
        match self.keys.as_str() {
            "" => format!("line {}", self.line),
            keys => format!("line {}: {keys}", self.line),
        }
    }

    /// Says which of the texts there is meant: `mirrors.a.endpoint "ftp://b"`.
    #[must_use]
    pub fn about(mut self, text: &str) -> Self {
        self.keys = format!("{} {text:?}", self.keys);
        self
    }
}

/// A value of a tree; one that is empty (`key:`) counts as the empty one of whatever is meant.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    node: &'a Node,
    /// Of its key, if it has one.
    line: u32,
    keys: String,
}

impl<'a> Part<'a> {
    pub fn of(tree: &'a Node) -> Self {
        Self {
            node: tree,
            line: tree.place.line,
            keys: String::new(),
        }
    }

    pub fn line(&self) -> u32 {
        self.line
    }

    pub fn node(&self) -> &'a Node {
        self.node
    }

    pub fn wrong(&self, why: impl Into<String>) -> Wrong {
        Wrong {
            line: self.line,
            keys: self.keys.clone(),
            why: why.into(),
        }
    }

    /// That its key is none of those which are known.
    pub fn unknown(&self, known: &[&str]) -> Wrong {
        let known = known.join(", ");
        self.wrong(format!("unknown field; there are: {known}"))
    }

    pub fn is_empty(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if scalar.kind == Kind::Null)
    }

    /// The keys of a map as they are written, none of them twice.
    pub fn entries(&self) -> Result<Vec<(&'a str, Self)>, Wrong> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries,
            _ if self.is_empty() => return Ok(Vec::new()),
            _ => return Err(self.wrong("a map is meant")),
        };
        let mut seen = HashSet::new();
        let mut parts = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = entry.key.text.as_str();
            let part = Self {
                node: &entry.value,
                line: entry.place.line,
                keys: match self.keys.as_str() {
                    "" => key.to_owned(),
                    keys => format!("{keys}.{key}"),
                },
            };
            if !seen.insert(key) {
                return Err(part.wrong("it is said twice; leave one out"));
            }
            parts.push((key, part));
        }
        Ok(parts)
    }

    pub fn items(&self) -> Result<Vec<Self>, Wrong> {
        match &self.node.value {
            Value::List(items) => Ok((items.iter())
                .map(|node| Self {
                    node,
                    line: node.place.line,
                    keys: self.keys.clone(),
                })
                .collect()),
            _ if self.is_empty() => Ok(Vec::new()),
            _ => Err(self.wrong("a list is meant")),
        }
    }

    /// A text, and also a number or a truth as it is written.
    pub fn text(&self) -> Result<&'a str, Wrong> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.kind == Kind::Null => Ok(""),
            Value::Scalar(scalar) => Ok(&scalar.text),
            _ => Err(self.wrong("a text is meant")),
        }
    }

    pub fn truth(&self) -> Result<bool, Wrong> {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.kind {
                Kind::Bool(truth) => Ok(truth),
                Kind::Null => Ok(false),
                _ => Err(self.wrong("true or false is meant")),
            },
            _ => Err(self.wrong("true or false is meant")),
        }
    }
}
