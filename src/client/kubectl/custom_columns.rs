//! `-o custom-columns`: a header and a path a column.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::json_path::{Path, text_of};
use crate::tab_writer::{TABLE, align};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CustomColumns(Vec<(String, Path)>);

impl CustomColumns {
    /// `NAME:.metadata.name,UID:.metadata.uid`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let columns = text.split(',').map(|column| {
            let (header, path) = column.split_once(':').ok_or_else(|| {
                Error::usage(format!(
                    "unexpected custom-columns spec: {column}, expected <header>:<json-path-expr>"
                ))
            })?;
            named(header, path)
        });
        Ok(Self(columns.collect::<Result<_>>()?))
    }

    /// A line of headers and a line of paths.
    pub(crate) fn parse_file(text: &str) -> Result<Self> {
        let mut lines = text.lines().map(str::split_whitespace);
        let (Some(headers), Some(paths)) = (lines.next(), lines.next()) else {
            return Err(Error::usage(
                "missing second line, expected <header> <header> …, then paths",
            ));
        };
        let columns = headers.zip(paths).map(|(header, path)| named(header, path));
        Ok(Self(columns.collect::<Result<_>>()?))
    }

    pub(crate) fn render(&self, value: &Value) -> String {
        let headers: Vec<&str> = self.0.iter().map(|(header, _)| header.as_str()).collect();
        align(
            &format!("{}\n{}", headers.join("\t"), self.rows(value)),
            TABLE,
        )
    }

    pub(crate) fn render_without_headers(&self, value: &Value) -> String {
        align(&self.rows(value), TABLE)
    }

    fn rows(&self, value: &Value) -> String {
        let objects = match value.get("items").and_then(Value::as_array) {
            Some(items) => items.iter().collect(),
            None => vec![value],
        };
        let rows = objects.into_iter().map(|object| {
            let cells: Vec<String> = self.0.iter().map(|(_, path)| cell(path, object)).collect();
            cells.join("\t") + "\n"
        });
        rows.collect()
    }
}

fn named(header: &str, path: &str) -> Result<(String, Path)> {
    let path = Path::parse_loose(path).map_err(Error::usage)?;
    Ok((header.to_owned(), path))
}

fn cell(path: &Path, object: &Value) -> String {
    let found: Vec<String> = path
        .find(object)
        .into_iter()
        .map(|value| {
            if value.is_null() {
                "<none>".to_owned()
            } else {
                text_of(value)
            }
        })
        .collect();
    if found.is_empty() {
        "<none>".to_owned()
    } else {
        found.join(",")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_none() {
        let columns =
            CustomColumns::parse("NAME:.metadata.name,NODE:spec.nodeName").expect("columns");
        let list = json!({"items": [{"metadata": {"name": "a"}, "spec": {"nodeName": "n"}},
                                    {"metadata": {"name": "bbbbbbb"}}]});
        assert_eq!(
            columns.render(&list),
            "NAME      NODE\na         n\nbbbbbbb   <none>\n"
        );
    }
}
