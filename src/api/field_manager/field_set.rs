//! Sets of fields, in the form that `managedFields` carries them (`FieldsV1`).
//!
//! An element of a path is kept as its text there: `f:name` a field, `k:{…}` an item of a list by its keys, `v:…` a value in a
//! set, `i:0` an item by its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A tree of path elements; an element can itself be a member, have members below it, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet(BTreeMap<String, Branch>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Branch {
    is_member: bool,
    below: FieldSet,
}

impl Branch {
    fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let branch = self.0.entry(first.clone()).or_default();
        if rest.is_empty() {
            branch.is_member = true;
        } else {
            branch.below.insert(rest);
        }
    }

    /// A set of one path of field names.
    pub(crate) fn of_fields(fields: &[&str]) -> Self {
        let path: Vec<String> = fields.iter().map(|field| format!("f:{field}")).collect();
        let mut set = Self::default();
        set.insert(&path);
        set
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (element, theirs) in &other.0 {
            let mine = all.0.entry(element.clone()).or_default();
            mine.is_member |= theirs.is_member;
            mine.below = mine.below.union(&theirs.below);
        }
        all
    }

    /// Members of this set that are no members of the other.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.combine(other, &|mine, theirs| Branch {
            is_member: mine.is_member && !theirs.is_some_and(|theirs| theirs.is_member),
            below: theirs.map_or_else(
                || mine.below.clone(),
                |theirs| mine.below.difference(&theirs.below),
            ),
        })
    }

    /// Members of this set that are neither members of the other nor below one.
    pub(crate) fn difference_below(&self, other: &Self) -> Self {
        self.combine(other, &|mine, theirs| match theirs {
            Some(theirs) if theirs.is_member => Branch::default(),
            Some(theirs) => Branch {
                is_member: mine.is_member,
                below: mine.below.difference_below(&theirs.below),
            },
            None => mine.clone(),
        })
    }

    /// Members on one of the paths or below it; `*` stands for any element.
    pub(crate) fn along(&self, paths: &[&[&str]]) -> Self {
        let branches = self.0.iter().filter_map(|(element, branch)| {
            let rest: Vec<&[&str]> = paths
                .iter()
                .filter_map(|path| path.split_first())
                .filter(|(first, _)| **first == "*" || element.strip_prefix("f:") == Some(first))
                .map(|(_, rest)| rest)
                .collect();
            let below = match rest.as_slice() {
                [] => return None,
                rest if rest.iter().any(|rest| rest.is_empty()) => branch.below.clone(),
                rest => branch.below.along(rest),
            };
            let kept = Branch { below, ..*branch };
            (!kept.is_empty()).then(|| (element.clone(), kept))
        });
        Self(branches.collect())
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, &|mine, theirs| match theirs {
            Some(theirs) => Branch {
                is_member: mine.is_member && theirs.is_member,
                below: mine.below.intersection(&theirs.below),
            },
            None => Branch::default(),
        })
    }

    fn combine(&self, other: &Self, rule: &dyn Fn(&Branch, Option<&Branch>) -> Branch) -> Self {
        let branches = self
            .0
            .iter()
            .map(|(element, mine)| (element.clone(), rule(mine, other.0.get(element))));
        Self(branches.filter(|(_, branch)| !branch.is_empty()).collect())
    }

    /// Does the set hold the element or anything below it?
    pub(crate) fn touches(&self, element: &str) -> bool {
        self.0.contains_key(element)
    }

    pub(crate) fn has_member(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|branch| branch.is_member)
    }

    /// What the set holds below an element.
    pub(crate) fn below(&self, element: &str) -> Option<&Self> {
        self.0.get(element).map(|branch| &branch.below)
    }

    /// Every member as a path, in order, in the notation of conflict messages: `.spec.containers[name="a"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        for (element, branch) in &self.0 {
            let path = format!("{prefix}{}", describe(element));
            if branch.is_member {
                paths.push(path.clone());
            }
            branch.below.collect_paths(&path, paths);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let entries = self.0.iter().map(|(element, branch)| {
            let mut value = branch.below.to_json();
            if let (true, false, Value::Object(map)) =
                (branch.is_member, branch.below.is_empty(), &mut value)
            {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            (element.clone(), value)
        });
        Value::Object(entries.collect())
    }

    /// Reads the `FieldsV1` form; `None` if it is not one.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (element, inner) in value.as_object()? {
            if element == "." {
                continue;
            }
            if !matches!(element.get(..2), Some("f:" | "k:" | "v:" | "i:")) {
                return None;
            }
            let below = Self::from_json(inner)?;
            let is_member = below.is_empty() || inner.get(".").is_some();
            set.0.insert(element.clone(), Branch { is_member, below });
        }
        Some(set)
    }
}

fn describe(element: &str) -> String {
    let (kind, text) = element.split_at(element.len().min(2));
    match kind {
        "f:" => format!(".{text}"),
        "v:" => format!("[={text}]"),
        "i:" => format!("[{text}]"),
        _ => {
            let keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let keys: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
    }
}
