//! The objects of one file: YAML or JSON, several documents in one, lists taken apart; every error says the line.

use apimachinery::Object;
use serde_json::Value;

/// A record of more would not fit into one object.
const OBJECTS_MAX: usize = 4000;

/// An object and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) line: usize,
    pub(crate) object: Object,
}

/// The objects of a text, or what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<Manifest>, String> {
    let mut manifests = Vec::new();
    for document in documents(text) {
        let read =
            codec::parse_yaml(document.text.as_bytes()).map_err(|error| error.to_string())?;
        if let Some(why) = read.strict_error() {
            return Err(why);
        }
        let value = read
            .document
            .into_value()
            .ok_or_else(|| format!("line {}: a number is out of range", document.line))?;
        if !value.is_null() {
            take_apart(value, document.line, &mut manifests)?;
        }
        if manifests.len() > OBJECTS_MAX {
            return Err(format!(
                "it has more than {OBJECTS_MAX} objects; divide it into several files"
            ));
        }
    }
    Ok(manifests)
}

struct Document {
    /// Of its first line with something in it.
    line: usize,
    /// With an empty line for each line before it, so that errors count lines as the file does.
    text: String,
}

fn documents(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut begin = Document {
        line: 0,
        text: String::new(),
    };
    for (index, line) in text.lines().enumerate() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            documents.push(begin);
            begin = Document {
                line: 0,
                text: "\n".repeat(index + 1),
            };
            continue;
        }
        let content = line.trim();
        if begin.line == 0 && !content.is_empty() && !content.starts_with('#') {
            begin.line = index + 1;
        }
        begin.text.push_str(line);
        begin.text.push('\n');
    }
    documents.push(begin);
    documents.retain(|document| document.line > 0);
    documents
}

fn take_apart(value: Value, line: usize, manifests: &mut Vec<Manifest>) -> Result<(), String> {
    let object = Object::from_value(value)
        .ok_or_else(|| format!("line {line}: the document is no object"))?;
    for (field, text) in [
        ("kind", object.kind()),
        ("apiVersion", object.api_version()),
    ] {
        if text.is_empty() {
            return Err(format!("line {line}: the object has no {field}"));
        }
    }
    let items = object.0.get("items").and_then(Value::as_array);
    if let (true, Some(items)) = (object.kind().ends_with("List"), items) {
        for item in items {
            take_apart(item.clone(), line, manifests)?;
        }
        return Ok(());
    }
    if object.name().is_empty() {
        return Err(format!(
            "line {line}: the {} has no metadata.name",
            object.kind()
        ));
    }
    manifests.push(Manifest { line, object });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_know_their_lines_and_lists_are_taken_apart() {
        let text = "# head\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n\n--- # next\n\n\
                    {\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\
                    \"metadata\":{\"name\":\"b\"}}]}\n";
        let read = parse(text).expect("manifests");
        let told: Vec<(usize, &str)> = read
            .iter()
            .map(|manifest| (manifest.line, manifest.object.name()))
            .collect();
        assert_eq!(told, [(3, "a"), (10, "b")]);
        assert_eq!(parse("# nothing\n---\n"), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_line_in_the_file() {
        let good = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n";
        for (text, why) in [
            (
                "kind: Pod\nmetadata: {name: b}\n",
                "line 5: the object has no apiVersion",
            ),
            (
                "apiVersion: v1\nmetadata: {name: b}\n",
                "line 5: the object has no kind",
            ),
            (
                "apiVersion: v1\nkind: Pod\n",
                "line 5: the Pod has no metadata.name",
            ),
            ("- a\n", "line 5: the document is no object"),
            ("apiVersion: v1\nkind: [\n", "line "),
            ("kind: A\nkind: B\n", "line 6: key \"kind\" already set"),
        ] {
            let error = parse(&format!("{good}{text}")).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
    }
}
