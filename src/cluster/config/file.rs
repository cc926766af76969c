//! A configuration file: flags' names with values, each with the line it stands in.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::ConfigError;

/// Far more than every flag with a long value.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files of one `.d` folder.
const FILES_MAX: usize = 256;
/// Behind a key: append to what earlier files say.
const APPEND: char = '+';

/// One key of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) line: u64,
    pub(crate) key: String,
    pub(crate) appends: bool,
    pub(crate) values: Values,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    One(String),
    Many(Vec<String>),
}

impl Values {
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

impl Entry {
    pub(crate) fn wrong(&self, why: impl Into<String>) -> ConfigError {
        ConfigError::Entry {
            path: self.path.clone(),
            line: self.line,
            key: self.key.clone(),
            why: why.into(),
        }
    }
}

/// The entries of a file and then of those in its folder `.d`, in alphabetical order.
pub(crate) fn read_all(path: &Path, named: Named) -> Result<Vec<Entry>, ConfigError> {
    let text = path.to_string_lossy();
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(unreadable(
            path,
            "configuration comes from files of this machine; fetch it and name the file",
        ));
    }
    let mut entries = Vec::new();
    let folder = folder_of(path)?;
    match path.try_exists() {
        Ok(false) if named == Named::ByDefault || !folder.is_empty() => {}
        _ => entries.extend(read_one(path)?),
    }
    for path in folder {
        entries.extend(read_one(&path)?);
    }
    Ok(entries)
}

/// Whether somebody named the file: then it must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    BySomebody,
    ByDefault,
}

fn unreadable(path: &Path, why: impl fmt::Display) -> ConfigError {
    ConfigError::File {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

fn folder_of(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, error))?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        if is_yaml && !is_hidden {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(unreadable(
                &folder,
                format!("it has more than {FILES_MAX} files"),
            ));
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_one(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let text = read_text(path).map_err(|error| unreadable(path, error))?;
    parse(path, &text)
}

fn read_text(path: &Path) -> std::io::Result<String> {
    // A pipe would never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = String::new();
    let size_bytes = File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if size_bytes as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it has more than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let options = serde_saphyr::options! {
        // The lines around an error may hold a token.
        with_snippet: false,
        // `node-name: 0012` is a text; numbers are read by the flag they are for.
        no_schema: false,
    };
    let read: Option<Keys> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| unreadable(path, error))?;
    let Some(Keys(keys)) = read else {
        return Ok(Vec::new());
    };
    let source = Source(text);
    let mut entries: Vec<Entry> = Vec::new();
    for (key, value) in keys {
        let line = key.referenced.line();
        let said = key.value.as_str();
        let (name, appends) = match said.strip_suffix(APPEND) {
            Some(name) => (name, true),
            None => (said, false),
        };
        let mut entry = Entry {
            path: path.to_owned(),
            line,
            key: name.to_owned(),
            appends,
            values: Values::Many(Vec::new()),
        };
        if entries.iter().any(|other| other.key == entry.key) {
            return Err(entry.wrong("the file says it twice; leave one out"));
        }
        entry.values = match value.value {
            Node::Empty => {
                return Err(entry.wrong("it has no value; leave the line out or say one"));
            }
            Node::Map => {
                return Err(entry.wrong(
                    "its value is a map; a text, a number, a truth or a list of them is meant",
                ));
            }
            Node::Scalar(scalar) => Values::One(source.text(&scalar, &value.referenced)),
            Node::List(items) => Values::Many(
                items
                    .into_iter()
                    .map(|item| match &item.value {
                        Node::Scalar(scalar) => Ok(source.text(scalar, &item.referenced)),
                        _ => Err(entry.wrong("its list has something else in it than texts")),
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        entries.push(entry);
    }
    Ok(entries)
}

struct Source<'a>(&'a str);

impl Source<'_> {
    /// A scalar as it was written: `0600` is not 600 and a token of digits is no number.
    fn text(&self, scalar: &Scalar, at: &serde_saphyr::Location) -> String {
        match scalar {
            Scalar::Text(text) => text.clone(),
            Scalar::Other(read) => {
                let span = at.span();
                let range = span
                    .byte_offset()
                    .zip(span.byte_len())
                    .and_then(|(from, length)| {
                        let from = usize::try_from(from).ok()?;
                        self.0.get(from..from + usize::try_from(length).ok()?)
                    });
                range.map_or_else(|| read.clone(), |text| text.trim().to_owned())
            }
        }
    }
}

/// The keys of a document in its order.
struct Keys(Vec<(Spanned<String>, Spanned<Node>)>);

enum Node {
    Empty,
    Map,
    Scalar(Scalar),
    List(Vec<Spanned<Node>>),
}

enum Scalar {
    Text(String),
    /// A number or a truth, as it would be written again.
    Other(String),
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap;
        impl<'de> Visitor<'de> for OfMap {
            type Value = Keys;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("names of flags with values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    keys.push(pair);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(OfMap)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfAny;

        fn other<E>(value: &impl ToString) -> Result<Node, E> {
            Ok(Node::Scalar(Scalar::Other(value.to_string())))
        }

        impl<'de> Visitor<'de> for OfAny {
            type Value = Node;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, a number, a truth or a list of them")
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Scalar(Scalar::Text(text.to_owned())))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                other(&value)
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                other(&value)
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                other(&value)
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                other(&value)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Empty)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {}
                Ok(Node::Map)
            }
        }
        deserializer.deserialize_any(OfAny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(u64, String, Values)>, String> {
        let entries = parse(Path::new("f"), text).map_err(|error| error.to_string())?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.line, entry.key, entry.values))
            .collect())
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        let one =
            |line, key: &str, value: &str| (line, key.to_owned(), Values::One(value.to_owned()));
        let text = "# text\nmode: 0600\nname: 012\nyes: no\nid: 1e5\nquoted: \"0x1\"\n";
        assert_eq!(
            read(text),
            Ok(vec![
                one(2, "mode", "0600"),
                one(3, "name", "012"),
                one(4, "yes", "no"),
                one(5, "id", "1e5"),
                one(6, "quoted", "0x1"),
            ])
        );
        let many = Values::Many(vec!["a".to_owned(), "01".to_owned()]);
        assert_eq!(read("l: [a, 01]\n"), Ok(vec![(1, "l".to_owned(), many)]));
        for nothing in ["", "# only a comment\n", "---\n"] {
            assert_eq!(read(nothing), Ok(vec![]), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_line() {
        for (text, why) in [
            ("a: 1\nb:\n", "f, line 2: b: it has no value"),
            ("a: {b: 1}\n", "f, line 1: a: its value is a map"),
            ("a: [[1]]\n", "f, line 1: a: its list has something else"),
            ("a: 1\nb: 2\na: 3\n", "a"),
            ("- a\n", "cannot read the configuration file f"),
            ("a: [1\n", "cannot read the configuration file f"),
            ("token: *none\n", "cannot read the configuration file f"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
        let secret = read("token: topsecret\n  x: [\n").expect_err("refused");
        assert!(!secret.contains("topsecret"), "{secret}");
    }

    #[test]
    fn files_that_are_none_or_too_large_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = folder.path().join("large");
        let size = usize::try_from(FILE_BYTES_MAX).expect("small") + 1;
        std::fs::write(&large, "#".repeat(size)).expect("written");
        for path in [folder.path(), &large, &folder.path().join("none")] {
            assert!(read_all(path, Named::BySomebody).is_err(), "{path:?}");
        }
        assert_eq!(
            read_all(&folder.path().join("none"), Named::ByDefault),
            Ok(vec![])
        );
        assert!(read_all(Path::new("https://a/b"), Named::BySomebody).is_err());
    }
}
