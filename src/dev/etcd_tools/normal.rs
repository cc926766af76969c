//! What may differ between two servers, taken out of what etcdctl prints: ids, addresses, versions, sizes and times.

use std::path::Path;

use serde_json::Value;

/// Fields that may differ, by the names that they have in the forms `json` and `fields`.
const FREE: &[&str] = &[
    "cluster_id",
    "member_id",
    "ClusterID",
    "MemberID",
    "ID",
    "id",
    "Endpoint",
    "Leader",
    "Version",
    "StorageVersion",
    "DBSize",
    "DBSizeInUse",
    "DBSizeQuota",
    "PercentageNotInUse",
    "RaftIndex",
    "RaftTerm",
    "RaftAppliedIndex",
    "PeerURL",
    "ClientURL",
    "lease",
];

/// The names that one server gives to what both have.
pub(crate) struct Names {
    texts: Vec<(String, &'static str)>,
    lease: String,
}

impl Names {
    pub(crate) fn new(endpoint: &str, peers: &str, file: &Path) -> Self {
        let bare = |url: &str| url.trim_start_matches("http://").to_owned();
        Self {
            texts: vec![
                (endpoint.to_owned(), "<endpoint>"),
                (bare(endpoint), "<address>"),
                // A server of ours has no peers, and names its own address in their place.
                (peers.to_owned(), "<endpoint>"),
                (file.display().to_string(), "<file>"),
            ],
            lease: "0".to_owned(),
        }
    }

    /// The lease that was granted last, in hexadecimal.
    pub(crate) fn lease(&self) -> &str {
        &self.lease
    }

    pub(crate) fn normal(&mut self, text: &str) -> String {
        if let Some(lease) = granted(text) {
            self.lease = lease.to_owned();
        }
        let lines: Vec<_> = text.lines().map(|line| self.line(line)).collect();
        lines.join("\n")
    }

    fn line(&self, line: &str) -> String {
        if let Ok(mut value) = serde_json::from_str::<Value>(line)
            && value.is_object()
        {
            without_free(&mut value);
            return value.to_string();
        }
        if let Some((name, _)) = line.split_once(" : ")
            && FREE.contains(&name.trim_matches('"'))
        {
            return format!("{name} : <{name}>");
        }
        let mut line = line.to_owned();
        for (text, name) in &self.texts {
            line = line.replace(text, name);
        }
        without_ids(&without_times(&line))
    }
}

fn granted(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("lease ")?;
    rest.contains(" granted with TTL")
        .then(|| rest.split(' ').next())
        .flatten()
}

fn without_free(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if FREE.contains(&name.as_str()) && !matches!(field, Value::Object(_)) {
                    *field = Value::Null;
                } else {
                    without_free(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_free),
        _ => {}
    }
}

/// `took = 3.3ms`, `took 12ms` and `remaining(99s)` without the numbers.
fn without_times(line: &str) -> String {
    let mut line = line.to_owned();
    for before in ["took = ", "took ", "remaining("] {
        if let Some(at) = line.find(before) {
            let begin = at + before.len();
            let length = line[begin..].find([' ', ')']).unwrap_or(line.len() - begin);
            line.replace_range(begin..begin + length, "<time>");
        }
    }
    line
}

/// Words of twelve hexadecimal digits or more are ids, and dotted numbers of 3.x versions.
fn without_ids(line: &str) -> String {
    let is_id = |word: &str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_version = |word: &str| {
        word.starts_with("3.")
            && word
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let mut normal = String::new();
    for part in line.split_inclusive([' ', ',', '/', '[', ']', '"', '(', ')']) {
        let word = part.trim_end_matches([' ', ',', '/', '[', ']', '"', '(', ')']);
        let rest = &part[word.len()..];
        normal += if is_id(word) {
            "<id>"
        } else if is_version(word) {
            "<version>"
        } else {
            word
        };
        normal += rest;
    }
    normal
}
