//! JSONPath templates as kubectl has them: text, paths in braces, `range` and `end`. What is missing gives nothing.

mod parse;

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Node>);

/// One path into an object.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    Range(Path, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Root,
    Field(String),
    Wildcard,
    Recursive,
    /// Start, end and step of a part of a list; negative ones count from its end.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Union(Vec<Path>),
    Filter(Operand, Option<(Comparison, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parse::template(text).map(Self)
    }

    pub(crate) fn render(&self, value: &Value) -> String {
        let mut out = String::new();
        render(&self.0, value, value, &mut out);
        out
    }
}

impl Path {
    /// Also the loose forms `.metadata.name` and `metadata.name` without braces.
    pub(crate) fn parse_loose(text: &str) -> Result<Self, String> {
        let inner = text.trim();
        let inner = match inner
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            Some(inner) => inner.trim(),
            None => inner,
        };
        let dotted = inner.starts_with(['.', '[', '$', '@']);
        parse::path(&if dotted {
            inner.to_owned()
        } else {
            format!(".{inner}")
        })
    }

    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        find(&self.0, value, value)
    }
}

fn render(nodes: &[Node], root: &Value, current: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let found: Vec<String> = find(&path.0, root, current)
                    .into_iter()
                    .map(text_of)
                    .collect();
                out.push_str(&found.join(" "));
            }
            Node::Range(path, body) => {
                for item in find(&path.0, root, current) {
                    render(body, root, item, out);
                }
            }
        }
    }
}

/// A value as it stands in output: texts plain, everything else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => {
            let mut text = String::new();
            write!(text, "{other}").expect("writing to a string does not fail");
            text
        }
    }
}

fn find<'a>(steps: &[Step], root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![current];
    for step in steps {
        found = found
            .into_iter()
            .flat_map(|value| take(step, root, value))
            .collect();
    }
    found
}

fn take<'a>(step: &Step, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Root => vec![root],
        Step::Field(name) => match value {
            Value::Array(items) => items.iter().filter_map(|item| item.get(name)).collect(),
            value => value.get(name).into_iter().collect(),
        },
        Step::Wildcard => children(value),
        Step::Recursive => {
            let mut all = vec![value];
            for child in children(value) {
                all.extend(take(step, root, child));
            }
            all
        }
        Step::Index(index) => {
            let items = value.as_array().map_or(&[][..], Vec::as_slice);
            position(*index, items.len())
                .and_then(|at| items.get(at))
                .into_iter()
                .collect()
        }
        Step::Slice(start, end, step) => slice(value, *start, *end, *step),
        Step::Union(paths) => paths
            .iter()
            .flat_map(|path| find(&path.0, root, value))
            .collect(),
        Step::Filter(left, right) => children(value)
            .into_iter()
            .filter(|item| holds(left, right.as_ref(), root, item))
            .collect(),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    usize::try_from(if index < 0 { index + length } else { index }).ok()
}

fn slice(value: &Value, start: Option<i64>, end: Option<i64>, step: i64) -> Vec<&Value> {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    let start = position(start.unwrap_or(0), items.len())
        .unwrap_or(0)
        .min(items.len());
    let end = end
        .map_or(Some(items.len()), |end| position(end, items.len()))
        .unwrap_or(0);
    let end = end.clamp(start, items.len());
    items[start..end]
        .iter()
        .step_by(usize::try_from(step).unwrap_or(1).max(1))
        .collect()
}

fn holds(
    left: &Operand,
    right: Option<&(Comparison, Operand)>,
    root: &Value,
    item: &Value,
) -> bool {
    let values = |operand: &Operand| -> Vec<Value> {
        match operand {
            Operand::Path(path) => find(&path.0, root, item).into_iter().cloned().collect(),
            Operand::Literal(value) => vec![value.clone()],
        }
    };
    let left = values(left);
    let Some((comparison, right)) = right else {
        return !left.is_empty();
    };
    let right = values(right);
    let (Some(left), Some(right)) = (left.first(), right.first()) else {
        return false;
    };
    let order = compare(left, right);
    match comparison {
        Comparison::Equal => left == right || order == Some(Ordering::Equal),
        Comparison::NotEqual => left != right && order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> String {
        let value = json!({
            "kind": "List",
            "items": [
                {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "n": 1, "on": true,
                 "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
                {"metadata": {"name": "b"}, "n": 22},
            ],
        });
        Template::parse(template)
            .expect("a template")
            .render(&value)
    }

    #[test]
    fn paths_lists_filters_and_loops() {
        assert_eq!(render("{.kind}"), "List");
        assert_eq!(render("{.items[*].metadata.name}"), "a b");
        assert_eq!(render("{.items[-1].n}-{.items[0:1].n}"), "22-1");
        assert_eq!(render("{..name}"), "a b");
        assert_eq!(
            render(r#"{.items[0].conditions[?(@.type=="Ready")].status}"#),
            "True"
        );
        assert_eq!(render("{.items[?(@.n > 2)].metadata.name}"), "b");
        assert_eq!(render("{.items[?(@.on)].metadata.name}"), "a");
        assert_eq!(
            render(r#"{range .items[*]}{.metadata.name}{"\t"}{.n}{"\n"}{end}"#),
            "a\t1\nb\t22\n"
        );
        assert_eq!(render(r"{.items[0].metadata.labels.x\.y/z}"), "1");
        assert_eq!(render(r"{.items[0].metadata.labels['x\.y/z']}"), "1");
        assert_eq!(render("{.items[*]['metadata.name', 'n']}"), "a 1 b 22");
        assert_eq!(render("{.items[0].metadata.labels}"), r#"{"x.y/z":"1"}"#);
        assert_eq!(render("{.missing.at.all}"), "");
        assert!(Template::parse("{.a").is_err());
        assert!(Template::parse("{range .a}").is_err());
    }

    #[test]
    fn a_path_may_come_without_braces_and_dot() {
        let value = json!({"metadata": {"name": "a"}});
        for path in [
            "metadata.name",
            ".metadata.name",
            "{.metadata.name}",
            "{metadata.name}",
        ] {
            assert_eq!(
                Path::parse_loose(path).expect("a path").find(&value),
                [&json!("a")]
            );
        }
    }
}
