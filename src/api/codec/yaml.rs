//! YAML in and out. YAML comes in as the JSON document it stands for, by the rules of YAML 1.1 that upstream keeps.

use std::borrow::Cow;
use std::fmt;

use schema::Document;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

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

/// Reads a body of one YAML document; of more only the first counts, an empty one is `null`.
pub fn parse_yaml(body: &[u8]) -> Result<YamlDocument, YamlError> {
    if body.len() > schema::BODY_SIZE_BYTES_MAX {
        return Err(YamlError::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| YamlError::InvalidUtf8)?;
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let document = serde_saphyr::with_deserializer_from_str_with_options(text, options, |input| {
        Node { depth: 0 }.deserialize(input)
    })
    .map_err(|error| {
        let text = error.to_string();
        if text.contains(TOO_DEEP) {
            YamlError::TooDeep
        } else {
            YamlError::Syntax(go_words(&text))
        }
    })?;
    let mut repeated_keys = Vec::new();
    let document = document.into_document(&mut repeated_keys);
    Ok(YamlDocument {
        document,
        repeated_keys,
    })
}

/// The commonest mistakes in the words of Go's reader, which clients see.
fn go_words(text: &str) -> String {
    let line = text
        .split("at line ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let expected = if text.contains("unclosed bracket '['") {
        "',' or ']'"
    } else if text.contains("unclosed bracket '{'") {
        "',' or '}'"
    } else {
        return text.to_owned();
    };
    line.map_or_else(
        || text.to_owned(),
        |line| format!("line {line}: did not find expected {expected}"),
    )
}

const TOO_DEEP: &str = "nested too deep";

/// Writes JSON bytes as YAML, for clients that ask for it.
pub fn json_to_yaml(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let tree: Value = serde_json::from_slice(json)?;
    let text =
        serde_saphyr::to_string(&tree).map_err(<serde_json::Error as serde::ser::Error>::custom)?;
    Ok(text.into_bytes())
}

/// A YAML value with the lines of its keys.
enum Yaml {
    Scalar(Document<'static>),
    Sequence(Vec<Yaml>),
    Mapping(Vec<(String, u64, Yaml)>),
}

impl Yaml {
    fn into_document(self, repeated: &mut Vec<String>) -> Document<'static> {
        match self {
            Self::Scalar(value) => value,
            Self::Sequence(items) => Document::Array(
                items
                    .into_iter()
                    .map(|item| item.into_document(repeated))
                    .collect(),
            ),
            Self::Mapping(members) => {
                let mut seen = std::collections::HashSet::new();
                let mut read = Vec::with_capacity(members.len());
                for (key, line, value) in members {
                    if !seen.insert(key.clone()) {
                        repeated.push(format!("line {line}: key {key:?} already set in map"));
                    }
                    read.push((Cow::Owned(key), value.into_document(repeated)));
                }
                Document::Object(read)
            }
        }
    }
}

/// Reads a value, counting how deep it is nested.
#[derive(Clone, Copy)]
struct Node {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Yaml;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Yaml, D::Error> {
        if self.depth > schema::JSON_DEPTH_MAX {
            return Err(serde::de::Error::custom(TOO_DEEP));
        }
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Yaml;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(Document::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        Ok(number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Yaml, E> {
        Ok(number(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(Document::String(Cow::Owned(text.to_owned()))))
    }

    fn visit_string<E>(self, text: String) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(Document::String(Cow::Owned(text))))
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(Document::Null))
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Scalar(Document::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<Yaml, D::Error> {
        input.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = input.next_element_seed(Self {
            depth: self.depth + 1,
        })? {
            items.push(item);
        }
        Ok(Yaml::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Yaml, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = input.next_key::<Spanned<Key>>()? {
            let value = input.next_value_seed(Self {
                depth: self.depth + 1,
            })?;
            members.push((key.value.0, key.referenced.line(), value));
        }
        Ok(Yaml::Mapping(members))
    }
}

fn number(literal: String) -> Yaml {
    Yaml::Scalar(Document::Number(Cow::Owned(literal)))
}

/// A key as JSON has it: `on`, `1` and `null` are keys in YAML 1.1, and become texts.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a plain key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(Key(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Key, E> {
        Ok(Key("null".to_owned()))
    }
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
            value("a: yes\non: 1\n2: x\nb: \"1\"\nc: 0.5\nd:\n- ~\n- {e: off}\nf: |\n  g\n"),
            json!({"a": true, "true": 1, "2": "x", "b": "1", "c": 0.5,
                   "d": [null, {"e": false}], "f": "g\n"})
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
    fn hostile_yaml_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let aliases = vec![format!("*a{before}"); 9].join(",");
            bomb = format!("{bomb}a{level}: &a{level} [{aliases}]\n");
        }
        assert!(parse_yaml(bomb.as_bytes()).is_err());
        assert!(parse_yaml("[".repeat(1000).as_bytes()).is_err());
        assert!(parse_yaml(b"a: [").is_err());
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
