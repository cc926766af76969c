//! Label and field selectors: parsing, matching, printing.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::names::{label_value_error, qualified_name_errors};

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// All requirements must hold; the empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    matches_nothing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

fn error(text: impl Into<String>) -> SelectorError {
    SelectorError(text.into())
}

impl Requirement {
    fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, SelectorError> {
        if let Some(why) = qualified_name_errors(key).into_iter().next() {
            return Err(error(format!("key: Invalid value: {key:?}: {why}")));
        }
        for value in &values {
            if let Some(why) = label_value_error(value) {
                return Err(error(format!(
                    "values[0][{key}]: Invalid value: {value:?}: {why}"
                )));
            }
        }
        let wants_number = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        if wants_number && values.iter().any(|value| value.parse::<i64>().is_err()) {
            return Err(error(format!(
                "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                values.first().map_or("", String::as_str)
            )));
        }
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    pub fn matches(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compares(value, |left, right| left > right),
            Operator::LessThan => self.compares(value, |left, right| left < right),
        }
    }

    fn compares(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let left = value.and_then(|value| value.parse().ok());
        let right = self.values.first().and_then(|value| value.parse().ok());
        left.zip(right)
            .is_some_and(|(left, right)| holds(left, right))
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            matches_nothing: true,
        }
    }

    /// Exactly these labels.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let requirements = labels
            .into_iter()
            .map(|(key, value)| Requirement {
                key: key.to_owned(),
                operator: Operator::In,
                values: BTreeSet::from([value.to_owned()]),
            })
            .collect();
        Self {
            requirements,
            matches_nothing: false,
        }
    }

    /// From the `metav1.LabelSelector` in an object. A missing one matches nothing, an empty one everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
            return Ok(Self::nothing());
        };
        let selector =
            ObjectSelector::deserialize(selector).map_err(|problem| error(problem.to_string()))?;
        let mut parsed = Self::from_labels(
            selector
                .match_labels
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        for expression in selector.match_expressions {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(error(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.values.into_iter().collect();
            parsed
                .requirements
                .push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(parsed)
    }

    /// From the text of a `labelSelector` parameter: `a=b,c!=d,e in (f,g),!h`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() && text.trim().is_empty() {
                continue;
            }
            requirements.push(parse_requirement(part)?);
        }
        Ok(Self {
            requirements,
            matches_nothing: false,
        })
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.matches_nothing
    }

    /// Does it match labels that `lookup` finds by key?
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.matches_nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(lookup(&requirement.key)))
    }

    pub fn matches(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectSelector {
    #[serde(default)]
    match_labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<ObjectRequirement>,
}

#[derive(Deserialize)]
struct ObjectRequirement {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0_u32;
    let mut start = 0;
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn one(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.trim().to_owned()])
}

fn parse_requirement(part: &str) -> Result<Requirement, SelectorError> {
    if part.is_empty() {
        return Err(error("found ',', expected: identifier after ','"));
    }
    if let Some(key) = part.strip_prefix('!') {
        return Requirement::new(key.trim(), Operator::DoesNotExist, BTreeSet::new());
    }
    if let Some((key, list)) = part.split_once('(') {
        return parse_set(part, key, list);
    }
    for (sign, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
        (">", Operator::GreaterThan),
        ("<", Operator::LessThan),
    ] {
        if let Some((key, value)) = part.split_once(sign) {
            if value.trim_start().starts_with('=') {
                return Err(error(
                    "unable to parse requirement: found '=', expected: identifier",
                ));
            }
            return Requirement::new(key.trim(), operator, one(value));
        }
    }
    if part.contains(char::is_whitespace) {
        let mut words = part.split_whitespace().skip(1);
        let found = words.next().unwrap_or_default();
        if matches!(found, "in" | "notin") {
            let next = words.next().unwrap_or_default();
            return Err(error(format!(
                "unable to parse requirement: found '{next}' expected: '('"
            )));
        }
        return Err(error(format!(
            "unable to parse requirement: found '{found}', expected: in, notin, =, ==, !=, gt, lt"
        )));
    }
    Requirement::new(part, Operator::Exists, BTreeSet::new())
}

fn parse_set(part: &str, head: &str, list: &str) -> Result<Requirement, SelectorError> {
    let mut words = head.split_whitespace();
    let (key, operator) = match (words.next(), words.next(), words.next()) {
        (Some(key), Some("in"), None) => (key, Operator::In),
        (Some(key), Some("notin"), None) => (key, Operator::NotIn),
        _ => return Err(error(format!("unable to parse requirement: {part}"))),
    };
    let list = list
        .trim_end()
        .strip_suffix(')')
        .ok_or_else(|| error("found '', expected: ',', or ')'"))?;
    Requirement::new(
        key,
        operator,
        list.split(',')
            .map(|value| value.trim().to_owned())
            .collect(),
    )
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            let values: Vec<&str> = requirement.values.iter().map(String::as_str).collect();
            let key = &requirement.key;
            match (requirement.operator, values.as_slice()) {
                (Operator::In, [only]) => write!(formatter, "{key}={only}")?,
                (Operator::In, several) => write!(formatter, "{key} in ({})", several.join(","))?,
                (Operator::NotIn, [only]) => write!(formatter, "{key}!={only}")?,
                (Operator::NotIn, several) => {
                    write!(formatter, "{key} notin ({})", several.join(","))?;
                }
                (Operator::Exists, _) => formatter.write_str(key)?,
                (Operator::DoesNotExist, _) => write!(formatter, "!{key}")?,
                (Operator::GreaterThan, several) => {
                    write!(formatter, "{key}>{}", several.join(","))?;
                }
                (Operator::LessThan, several) => write!(formatter, "{key}<{}", several.join(","))?,
            }
        }
        Ok(())
    }
}

/// One condition on a selectable field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Dotted: `spec.nodeName`.
    pub field: String,
    pub value: String,
    pub equal: bool,
}

/// All requirements must hold; the empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(pub Vec<FieldRequirement>);

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self(vec![FieldRequirement {
            field: field.into(),
            value: value.into(),
            equal: true,
        }])
    }

    /// From the text of a `fieldSelector` parameter: `spec.nodeName=n1,status.phase!=Failed`, with `\` before `,`, `=` and `\`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_unescaped(text)
            .into_iter()
            .filter(|term| !term.is_empty())
        {
            requirements.push(parse_field_requirement(&term)?);
        }
        Ok(Self(requirements))
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that the selector demands of `field`, if it demands exactly one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|requirement| requirement.equal && requirement.field == field)
            .map(|found| found.value.as_str())
    }

    /// Does it match the fields that `lookup` finds? A missing field is empty.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| {
            (lookup(&requirement.field).unwrap_or_default() == requirement.value)
                == requirement.equal
        })
    }
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        if character == ',' && !escaped {
            terms.push(String::new());
            continue;
        }
        escaped = character == '\\' && !escaped;
        terms
            .last_mut()
            .expect("there is always one term")
            .push(character);
    }
    terms
}

fn parse_field_requirement(term: &str) -> Result<FieldRequirement, SelectorError> {
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((field, value)) = term.split_once(sign) {
            return Ok(FieldRequirement {
                field: field.to_owned(),
                value: unescape(value)?,
                equal,
            });
        }
    }
    Err(error(format!(
        "invalid selector: '{term}'; can't understand '{term}'"
    )))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => text.push(escaped),
                _ => {
                    return Err(error(format!(
                        "invalid field selector: invalid escape sequence in value: {value}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(error(format!(
                    "invalid field selector: unescaped character in value: {value}"
                )));
            }
            other => text.push(other),
        }
    }
    Ok(text)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            let value = requirement
                .value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            write!(
                formatter,
                "{}{}{value}",
                requirement.field,
                if requirement.equal { "=" } else { "!=" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_selector_reads_every_form_and_prints_it_back() {
        let text = "a=b,c!=d,e in (f,g),h notin (i,j),k,!l,m>3";
        let selector = LabelSelector::parse(text).expect("a selector");
        assert_eq!(selector.to_string(), text);
        let labels = [("a", "b"), ("e", "g"), ("k", ""), ("m", "4")];
        let lookup = |key: &str| {
            labels
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        assert!(selector.matches_with(lookup));
    }

    #[test]
    fn a_missing_selector_in_an_object_matches_nothing() {
        assert!(
            !LabelSelector::from_object(None)
                .expect("nothing")
                .matches_with(|_| None)
        );
        assert!(
            LabelSelector::from_object(Some(&serde_json::json!({})))
                .expect("everything")
                .matches_with(|_| None)
        );
    }

    #[test]
    fn a_field_selector_unescapes() {
        let selector = FieldSelector::parse(r"metadata.name=a\,b,spec.x!=c").expect("a selector");
        assert_eq!(selector.exact("metadata.name"), Some("a,b"));
        assert_eq!(selector.to_string(), r"metadata.name=a\,b,spec.x!=c");
    }
}
