//! Nobody grants what he does not hold.

use super::rule::Rule;
use crate::User;

/// The permissions in a role or binding that its author does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscalationError {
    missing: Vec<Rule>,
}

/// What of `wanted` is not granted by `held`; `Ok` if all is.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Result<(), EscalationError> {
    let missing: Vec<Rule> = wanted
        .iter()
        .flat_map(Rule::broken_down)
        .filter(|part| !held.iter().any(|rule| rule.covers(part)))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(EscalationError {
            missing: compact(missing),
        })
    }
}

/// Parts about the same resource are told as one rule with several verbs.
fn compact(parts: Vec<Rule>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for part in parts {
        let same = rules.iter_mut().find(|rule| {
            rule.api_groups == part.api_groups
                && rule.resources == part.resources
                && rule.resource_names == part.resource_names
                && rule.non_resource_urls == part.non_resource_urls
        });
        match same {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => rules.push(part),
        }
    }
    rules.sort_by_key(describe);
    rules
}

fn go_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn describe(rule: &Rule) -> String {
    let mut parts = Vec::new();
    for (name, list) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ] {
        if !list.is_empty() {
            let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
            parts.push(format!("{name}:[{}]", quoted.join(", ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

impl EscalationError {
    /// The text behind "is forbidden: ".
    pub fn message(&self, user: &User) -> String {
        let missing: Vec<String> = self.missing.iter().map(describe).collect();
        format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            go_list(&user.groups),
            missing.join("\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_held_is_named() {
        let held = [Rule::resources(&["get"], &[""], &["pods"])];
        let wanted = [Rule::resources(&["get", "list", "watch"], &[""], &["pods"])];
        let error = uncovered(&held, &wanted).expect_err("an escalation");
        assert_eq!(
            error.message(&User::named("a", &["g", "h"])),
            "user \"a\" (groups=[\"g\" \"h\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\", \"watch\"]}"
        );
        assert_eq!(
            uncovered(&[Rule::resources(&["*"], &["*"], &["*"])], &wanted),
            Ok(())
        );
    }
}
