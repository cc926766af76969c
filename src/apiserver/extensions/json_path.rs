//! The part of kubectl's `JSONPath` that printer columns and selectable fields use: names, indexes, wildcards, equality filters.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// `[?(@.type=="Ready")]`
    Where {
        path: Vec<String>,
        equals: Value,
    },
}

impl JsonPath {
    /// `None` if the path is none that we read.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text
            .trim()
            .trim_start_matches('{')
            .trim_end_matches('}')
            .trim_start_matches('$');
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let end = closing_bracket(after)?;
                steps.push(parse_bracket(&after[..end])?);
                rest = &after[end + 1..];
            } else {
                let after = rest.strip_prefix('.').unwrap_or(rest);
                let end = name_end(after);
                if end == 0 {
                    return None;
                }
                let name = after[..end].replace("\\.", ".");
                steps.push(if name == "*" {
                    Step::All
                } else {
                    Step::Field(name)
                });
                rest = &after[end..];
            }
        }
        Some(Self(steps))
    }

    /// Everything that the path finds.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| step.apply(value))
                .collect();
        }
        found
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let index = if *index < 0 { length + index } else { *index };
                usize::try_from(index)
                    .ok()
                    .and_then(|index| items.get(index))
                    .into_iter()
                    .collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Where { path, equals }, Value::Array(items)) => items
                .iter()
                .filter(|item| {
                    path.iter().try_fold(*item, |value, name| value.get(name)) == Some(equals)
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn name_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match character {
            '\\' => escaped = true,
            '.' | '[' if !escaped => return index,
            _ => escaped = false,
        }
    }
    text.len()
}

fn closing_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (None, ']') => return Some(index),
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    None
}

fn parse_bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquote(text) {
        return Some(Step::Field(name));
    }
    if let Some(filter) = text
        .strip_prefix("?(")
        .and_then(|text| text.strip_suffix(')'))
    {
        let (path, value) = filter.split_once("==")?;
        let path = path
            .trim()
            .strip_prefix('@')?
            .split('.')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let value = value.trim();
        let equals = unquote(value)
            .map(Value::String)
            .or_else(|| serde_json::from_str(value).ok())?;
        return Some(Step::Where { path, equals });
    }
    text.parse().ok().map(Step::Index)
}

fn unquote(text: &str) -> Option<String> {
    let inner = ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))?;
    Some(inner.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_fields_items_and_matching_items() {
        let value =
            json!({"a": {"b.c": 1, "list": [{"type": "x", "v": 2}, {"type": "y", "v": 3}]}});
        for (path, found) in [
            (".a.b\\.c", vec![json!(1)]),
            ("{.a['b.c']}", vec![json!(1)]),
            (".a.list[0].v", vec![json!(2)]),
            (".a.list[-1].v", vec![json!(3)]),
            (".a.list[*].v", vec![json!(2), json!(3)]),
            (".a.list[?(@.type==\"y\")].v", vec![json!(3)]),
            (".nothing", vec![]),
        ] {
            let path = JsonPath::parse(path).expect("a path");
            assert_eq!(
                path.find(&value).into_iter().cloned().collect::<Vec<_>>(),
                found
            );
        }
    }
}
