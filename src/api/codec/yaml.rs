//! YAML in and out. YAML comes in as the JSON document it stands for, by the rules of YAML 1.1 that upstream keeps.

use std::borrow::Cow;

use schema::Document;
use serde_json::Value;
use yaml::{Fault, Kind, Node, Scalar, SyntaxError};

const _: () = assert!(yaml::DEPTH_MAX == schema::JSON_DEPTH_MAX);

/// A YAML body as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct YamlDocument {
    /// Members in the order of the text; repeated keys are still there.
    pub document: Document<'static>,
    /// What a strict reader objects to: `line 4: key "a" already set in map`.
    pub repeated_keys: Vec<String>,
}

impl YamlDocument {
    /// The one error upstream makes of all repeated keys; `None` where there are none.
    pub fn strict_error(&self) -> Option<String> {
        if self.repeated_keys.is_empty() {
            return None;
        }
        Some(format!(
            "yaml: unmarshal errors:\n  {}",
            self.repeated_keys.join("\n  ")
        ))
    }
}

/// Why a YAML body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    #[error("yaml: {0}")]
    Syntax(String),
    #[error(
        "request body too large: limit is {} bytes",
        schema::BODY_SIZE_BYTES_MAX
    )]
    TooLarge,
    #[error("yaml: invalid UTF-8")]
    InvalidUtf8,
    #[error("yaml: exceeded max depth")]
    TooDeep,
}

impl From<SyntaxError> for YamlError {
    /// The commonest mistakes are told in the words of Go's reader, which clients see.
    fn from(error: SyntaxError) -> Self {
        let expected = match error.fault {
            Fault::TooDeep => return Self::TooDeep,
            Fault::Unclosed('[') => "',' or ']'",
            Fault::Unclosed(_) => "',' or '}'",
            Fault::Grammar(_) => return Self::Syntax(error.to_string()),
        };
        let line = error.place.line;
        Self::Syntax(format!("line {line}: did not find expected {expected}"))
    }
}

/// Reads a body of one YAML document; of more only the first counts, an empty one is `null`.
pub fn parse_yaml(body: &[u8]) -> Result<YamlDocument, YamlError> {
    if body.len() > schema::BODY_SIZE_BYTES_MAX {
        return Err(YamlError::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| YamlError::InvalidUtf8)?;
    let mut repeated_keys = Vec::new();
    let document = match yaml::parse_first(text)? {
        Some(tree) => document_of(tree, &mut repeated_keys)?,
        None => Document::Null,
    };
    Ok(YamlDocument {
        document,
        repeated_keys,
    })
}

/// Writes JSON bytes as YAML, for clients that ask for it.
pub fn json_to_yaml(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let tree: Value = serde_json::from_slice(json)?;
    Ok(yaml::write(&tree).into_bytes())
}

fn document_of(tree: Node, repeated: &mut Vec<String>) -> Result<Document<'static>, YamlError> {
    match tree.value {
        yaml::Value::Scalar(scalar) => scalar_of(scalar, tree.place.line),
        yaml::Value::List(items) => {
            let items = items.into_iter().map(|item| document_of(item, repeated));
            Ok(Document::Array(items.collect::<Result<_, _>>()?))
        }
        yaml::Value::Map(entries) => {
            let mut seen = std::collections::HashSet::new();
            let mut members = Vec::with_capacity(entries.len());
            for entry in entries {
                let key = entry.key.name().into_owned();
                if !seen.insert(key.clone()) {
                    let line = entry.place.line;
                    repeated.push(format!("line {line}: key {key:?} already set in map"));
                }
                members.push((Cow::Owned(key), document_of(entry.value, repeated)?));
            }
            Ok(Document::Object(members))
        }
    }
}

fn scalar_of(scalar: Scalar, line: u32) -> Result<Document<'static>, YamlError> {
    let literal = match scalar.kind {
        Kind::Null => return Ok(Document::Null),
        Kind::Bool(truth) => return Ok(Document::Bool(truth)),
        Kind::Text => return Ok(Document::String(Cow::Owned(scalar.text))),
        Kind::Unsigned(number) => number.to_string(),
        Kind::Negative(number) => number.to_string(),
        Kind::Float(number) if number.is_finite() => number.to_string(),
        Kind::Float(_) => {
            let why = format!("line {line}: JSON has no number that is infinite or none");
            return Err(YamlError::Syntax(why));
        }
    };
    Ok(Document::Number(Cow::Owned(literal)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        parse_yaml(text.as_bytes())
            .unwrap()
            .document
            .into_value()
            .unwrap()
    }

    #[test]
    fn yaml_means_what_upstream_reads_in_it() {
        assert_eq!(
            value(
                "a: yes\non: 1\n2: x\nb: \"1\"\nc: 0.5\nd:\n- ~\n- {e: off}\nf: |\n  g\nh: 0644\n"
            ),
            json!({"a": true, "true": 1, "2": "x", "b": "1", "c": 0.5,
                   "d": [null, {"e": false}], "f": "g\n", "h": 420})
        );
    }

    #[test]
    fn all_repeated_keys_are_told_with_their_lines() {
        let read = parse_yaml(b"spec:\n  a: 1\n  b: 2\n  a: 3\n  b: 4\n").unwrap();
        assert_eq!(
            read.strict_error().unwrap(),
            "yaml: unmarshal errors:\n  line 4: key \"a\" already set in map\n  \
             line 5: key \"b\" already set in map"
        );
        assert_eq!(
            read.document.into_value().unwrap(),
            json!({"spec": {"a": 3, "b": 4}})
        );
    }

    #[test]
    fn the_first_document_counts_and_none_is_null() {
        assert_eq!(value("a: 1\n---\nb: 2\n"), json!({"a": 1}));
        assert_eq!(value("# nothing\n"), Value::Null);
    }

    #[test]
    fn hostile_yaml_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let aliases = vec![format!("*a{before}"); 9].join(",");
            bomb = format!("{bomb}a{level}: &a{level} [{aliases}]\n");
        }
        assert!(parse_yaml(bomb.as_bytes()).is_err());
        assert_eq!(
            parse_yaml("[".repeat(1000).as_bytes()),
            Err(YamlError::TooDeep)
        );
        assert_eq!(
            parse_yaml(b"a: [").unwrap_err().to_string(),
            "yaml: line 1: did not find expected ',' or ']'"
        );
        assert!(parse_yaml(b"a: .inf").is_err());
        assert_eq!(parse_yaml(b"\xff"), Err(YamlError::InvalidUtf8));
    }

    #[test]
    fn answers_in_yaml_read_back_as_the_same_object() {
        let object = json!({"kind": "A", "metadata": {"name": "on", "labels": {"a": "1"}},
                            "items": [], "n": 1, "s": "a: b\n"});
        let yaml = json_to_yaml(object.to_string().as_bytes()).unwrap();
        assert_eq!(
            parse_yaml(&yaml).unwrap().document.into_value().unwrap(),
            object
        );
    }
}
