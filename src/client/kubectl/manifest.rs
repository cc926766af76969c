//! Objects from files, folders and standard input: YAML or JSON, several documents in one, lists taken apart.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use apimachinery::Object;
use clap::Args;
use serde_json::Value;

use crate::error::{Error, Result};

/// More than this in one file or on standard input is refused.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The deepest folder that `-R` enters.
const FOLDER_DEPTH_MAX: usize = 16;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Files {
    /// File, folder, or - for standard input
    #[arg(
        long = "filename",
        short = 'f',
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub(crate) names: Vec<String>,
    /// Enter folders within folders
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Refused: kustomizations are not built in
    #[arg(long, short = 'k', value_name = "DIR")]
    kustomize: Option<String>,
}

/// An object and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) object: Object,
    pub(crate) origin: String,
}

impl Files {
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.kustomize.is_none()
    }

    pub(crate) fn read(&self) -> Result<Vec<Manifest>> {
        if self.kustomize.is_some() {
            return Err(Error::usage(
                "-k is not built in: build the kustomization elsewhere and pass it with -f",
            ));
        }
        let mut manifests = Vec::new();
        for name in &self.names {
            if name.starts_with("http://") || name.starts_with("https://") {
                return Err(Error::usage(format!(
                    "-f takes no URL: download {name} and pass the file"
                )));
            }
            if name == "-" {
                let mut text = Vec::new();
                let read = std::io::stdin().take(FILE_BYTES_MAX).read_to_end(&mut text);
                read.map_err(|error| Error::usage(format!("read standard input: {error}")))?;
                manifests.extend(parse(&text, "STDIN")?);
                continue;
            }
            for path in self.files(Path::new(name))? {
                let text = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
                manifests.extend(parse(&text, &path.display().to_string())?);
            }
        }
        if manifests.is_empty() {
            return Err(Error::usage("no objects found in what was passed with -f"));
        }
        Ok(manifests)
    }

    fn files(&self, path: &Path) -> Result<Vec<PathBuf>> {
        if !path.exists() {
            return Err(Error::usage(format!(
                "the path {:?} does not exist",
                path.display().to_string()
            )));
        }
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let mut found = Vec::new();
        collect(
            path,
            if self.recursive { FOLDER_DEPTH_MAX } else { 0 },
            &mut found,
        )?;
        if found.is_empty() {
            return Err(Error::usage(format!(
                "error reading [{}]: recognized file extensions are [.json .yaml .yml]",
                path.display()
            )));
        }
        Ok(found)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("read {}: {error}", path.display()))
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| unreadable(folder, &error))?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, found)?;
            }
        } else if path
            .extension()
            .is_some_and(|end| ["json", "yaml", "yml"].iter().any(|known| end == *known))
        {
            found.push(path);
        }
    }
    Ok(())
}

/// The objects of one text.
pub(crate) fn parse(text: &[u8], origin: &str) -> Result<Vec<Manifest>> {
    let text = std::str::from_utf8(text)
        .map_err(|_| Error::usage(format!("error parsing {origin}: the text is not UTF-8")))?;
    let mut manifests = Vec::new();
    for document in documents(text) {
        let value = tree(&document)
            .map_err(|why| Error::usage(format!("error parsing {origin}: {why}")))?;
        if !value.is_null() {
            take_apart(value, origin, &mut manifests)?;
        }
    }
    Ok(manifests)
}

/// One YAML or JSON document as a tree; keys that repeat are an error.
pub(crate) fn tree(text: &str) -> Result<Value, String> {
    let read = codec::parse_yaml(text.as_bytes()).map_err(|error| error.to_string())?;
    if let Some(why) = read.strict_error() {
        return Err(why);
    }
    read.document
        .into_value()
        .ok_or_else(|| "a number is out of range".to_owned())
}

/// The documents of a YAML stream; a line that begins with `---` stands between two.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") || line.trim_end() == "---" {
            documents.push(String::new());
            continue;
        }
        let document = documents.last_mut().expect("there is always one");
        document.push_str(line);
        document.push('\n');
    }
    documents.retain(|document| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

fn take_apart(value: Value, origin: &str, manifests: &mut Vec<Manifest>) -> Result<()> {
    let Some(object) = Object::from_value(value) else {
        return Err(Error::usage(format!(
            "error parsing {origin}: a document is no object"
        )));
    };
    if object.kind().is_empty() {
        return Err(missing(origin, "kind"));
    }
    if object.api_version().is_empty() {
        return Err(missing(origin, "apiVersion"));
    }
    let items = object.0.get("items").and_then(Value::as_array);
    if let (true, Some(items)) = (object.kind().ends_with("List"), items) {
        for item in items {
            take_apart(item.clone(), origin, manifests)?;
        }
        return Ok(());
    }
    manifests.push(Manifest {
        object,
        origin: origin.to_owned(),
    });
    Ok(())
}

fn missing(origin: &str, field: &str) -> Error {
    Error::usage(format!(
        "error validating {origin:?}: error validating data: {field} not set; if you choose to ignore these errors, \
         turn validation off with --validate=false"
    ))
}

/// The object's own namespace, or the session's; a namespace on the command line must agree with the object's.
pub(crate) fn namespace(object: &Object, session: &str, names_namespace: bool) -> Result<String> {
    let own = object.namespace();
    if names_namespace && !own.is_empty() && own != session {
        return Err(Error::usage(format!(
            "the namespace from the provided object {own:?} does not match the namespace {session:?}. You must pass \
             '--namespace={own}' to perform this operation."
        )));
    }
    Ok(if own.is_empty() { session } else { own }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_several_documents_and_lists_are_taken_apart() {
        let text = "# head\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n\n--- # next\n\
                    {\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\
                    \"metadata\":{\"name\":\"b\"}}]}\n";
        let read = parse(text.as_bytes(), "x").expect("manifests");
        let names: Vec<&str> = read.iter().map(|manifest| manifest.object.name()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_has_no_kind_or_repeats_a_key_is_refused() {
        assert!(parse(b"apiVersion: v1\n", "x").is_err());
        assert!(parse(b"apiVersion: v1\nkind: A\nkind: B\n", "x").is_err());
        assert!(parse(b"- a\n", "x").is_err());
    }

    #[test]
    fn a_namespace_on_the_command_line_has_to_agree() {
        let object = |namespace: &str| {
            let mut object = Object::default();
            object.set_metadata_text("namespace", namespace);
            object
        };
        assert_eq!(namespace(&object("a"), "b", false).expect("good"), "a");
        assert_eq!(namespace(&object(""), "b", true).expect("good"), "b");
        assert!(namespace(&object("a"), "b", true).is_err());
    }
}
