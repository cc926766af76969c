//! `$(NAME)` in commands, arguments and values of variables; `$$` is a dollar sign.

/// Replaces references by what `lookup` knows; unknown ones stay as they are.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        rest = match after.chars().next() {
            None => {
                expanded.push('$');
                after
            }
            Some('$') => {
                expanded.push('$');
                &after[1..]
            }
            Some('(') => {
                if let Some(end) = after.find(')') {
                    let name = &after[1..end];
                    expanded.push_str(&lookup(name).unwrap_or_else(|| format!("$({name})")));
                    &after[end + 1..]
                } else {
                    expanded.push_str("$(");
                    &after[1..]
                }
            }
            Some(other) => {
                expanded.push('$');
                expanded.push(other);
                &after[other.len_utf8()..]
            }
        };
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_escapes_kept_and_unknown_names_left_alone() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        let cases = [
            ("$(A)-$(B)", "1-$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$A", "$A"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
