//! A configuration file: flags' names with values, each with the line it stands in.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use yaml::{Kind, Node, Value};

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
    pub(crate) line: u32,
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

/// What a file and those of its folder say, for one who looks at a service from outside.
///
/// What cannot be read is left out: the service itself will say it.
pub fn readable_values(path: &Path) -> BTreeMap<String, Vec<String>> {
    let folder = folder_of(path).unwrap_or_default();
    let files = [path.to_owned()].into_iter().chain(folder);
    let mut said = BTreeMap::<String, Vec<String>>::new();
    for entry in files.flat_map(|path| read_one(&path).unwrap_or_default()) {
        let values = said.entry(entry.key).or_default();
        if !entry.appends {
            values.clear();
        }
        values.extend(entry.values.into_list());
    }
    said
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
    let Some(tree) = yaml::parse(text).map_err(|error| unreadable(path, error))? else {
        return Ok(Vec::new());
    };
    let keys = match tree.value {
        Value::Map(keys) => keys,
        Value::Scalar(scalar) if scalar.kind == Kind::Null => Vec::new(),
        _ => return Err(unreadable(path, "names of flags with values are meant")),
    };
    let mut entries: Vec<Entry> = Vec::new();
    for key in keys {
        let said = key.key.text;
        let (name, appends) = match said.strip_suffix(APPEND) {
            Some(name) => (name, true),
            None => (said.as_str(), false),
        };
        let mut entry = Entry {
            path: path.to_owned(),
            line: key.place.line,
            key: name.to_owned(),
            appends,
            values: Values::Many(Vec::new()),
        };
        if entries.iter().any(|other| other.key == entry.key) {
            return Err(entry.wrong("the file says it twice; leave one out"));
        }
        entry.values = values(key.value).map_err(|why| entry.wrong(why))?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Scalars as they are written: `0600` is not 600 and a token of digits is no number.
fn values(node: Node) -> Result<Values, &'static str> {
    match node.value {
        Value::Scalar(scalar) if scalar.kind == Kind::Null => {
            Err("it has no value; leave the line out or say one")
        }
        Value::Scalar(scalar) => Ok(Values::One(scalar.text)),
        Value::Map(_) => {
            Err("its value is a map; a text, a number, a truth or a list of them is meant")
        }
        Value::List(items) => {
            let texts = items.into_iter().map(|item| match item.value {
                Value::Scalar(scalar) if scalar.kind != Kind::Null => Ok(scalar.text),
                _ => Err("its list has something else in it than texts"),
            });
            Ok(Values::Many(texts.collect::<Result<_, _>>()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(u32, String, Values)>, String> {
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
            ("a: 1\nb: 2\na: 3\n", "f, line 3: a: the file says it twice"),
            ("- a\n", "cannot read the configuration file f: names of"),
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
    fn from_outside_a_later_file_wins_and_what_is_unreadable_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.yaml");
        let more = folder.path().join("config.yaml.d");
        std::fs::create_dir(&more).expect("made");
        for (path, text) in [
            (&file, "a: 01\nlist: [x]\nc: yes\n"),
            (&more.join("1.yaml"), "a: b\nlist+: y\n"),
            (&more.join("2.yaml"), "a: [\n"),
        ] {
            std::fs::write(path, text).expect("written");
        }
        let expected = [
            ("a", vec!["b"]),
            ("c", vec!["yes"]),
            ("list", vec!["x", "y"]),
        ];
        let expected = expected.map(|(key, values)| {
            let values = values.into_iter().map(str::to_owned).collect();
            (key.to_owned(), values)
        });
        assert_eq!(readable_values(&file), expected.into());
        assert_eq!(
            readable_values(&folder.path().join("none")),
            BTreeMap::new()
        );
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
