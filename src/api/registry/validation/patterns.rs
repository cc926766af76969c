//! Texts about texts: how a refused value should look.

use std::sync::OnceLock;

use regex::Regex;

/// `RegexError`: the rule, examples, and the expression.
pub(crate) fn pattern_error(rule: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{rule} (regex used for validation is '{expression}')");
    }
    let examples: Vec<String> = examples
        .iter()
        .map(|example| format!("'{example}', "))
        .collect();
    format!(
        "{rule} (e.g. {}regex used for validation is '{expression}')",
        examples.join(" or ")
    )
}

pub(crate) fn too_many_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// An expression that is compiled once.
pub(crate) struct Expression {
    text: &'static str,
    compiled: OnceLock<Regex>,
}

impl Expression {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text,
            compiled: OnceLock::new(),
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let compile =
            || Regex::new(self.text).expect("the expression is a constant that a test compiles");
        self.compiled.get_or_init(compile).is_match(text)
    }
}
