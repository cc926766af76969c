//! One policy rule and what it allows.

use serde::{Deserialize, Serialize};

use crate::Attributes;

/// `rbac/v1.PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub api_groups: Vec<String>,
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<String>,
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

pub(super) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

fn holds(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

impl Rule {
    /// A rule about resources, for tables in code.
    pub fn resources(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Self {
            verbs: owned(verbs),
            api_groups: owned(groups),
            resources: owned(resources),
            ..Self::default()
        }
    }

    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !holds(&self.verbs, &attributes.verb) {
            return false;
        }
        match &attributes.path {
            Some(path) => self.allows_path(path),
            None => {
                holds(&self.api_groups, &attributes.api_group)
                    && self.allows_resource(&attributes.resource, &attributes.subresource)
                    && (self.resource_names.is_empty()
                        || self.resource_names.contains(&attributes.name))
            }
        }
    }

    fn allows_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|pattern| {
            pattern == "*"
                || pattern == path
                || pattern
                    .strip_suffix('*')
                    .is_some_and(|prefix| path.starts_with(prefix))
        })
    }

    fn allows_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources
            .iter()
            .any(|entry| match entry.split_once('/') {
                _ if entry == "*" => true,
                None => subresource.is_empty() && entry == resource,
                Some(("*", wanted)) => !subresource.is_empty() && wanted == subresource,
                Some((wanted, sub)) => wanted == resource && sub == subresource,
            })
    }

    /// The same rule with one element in each list, so that each part can be judged alone.
    pub(super) fn broken_down(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                parts.push(Self {
                    verbs: one(verb),
                    non_resource_urls: one(url),
                    ..Self::default()
                });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                    } else {
                        let named = |name| Self {
                            resource_names: one(name),
                            ..part.clone()
                        };
                        parts.extend(self.resource_names.iter().map(named));
                    }
                }
            }
        }
        parts
    }

    /// Does this rule grant all that a broken-down `part` grants?
    pub(super) fn covers(&self, part: &Self) -> bool {
        let every =
            |list: &[String], parts: &[String]| parts.iter().all(|wanted| holds(list, wanted));
        let names_covered = self.resource_names.is_empty()
            || (!part.resource_names.is_empty()
                && part
                    .resource_names
                    .iter()
                    .all(|name| self.resource_names.contains(name)));
        every(&self.verbs, &part.verbs)
            && every(&self.api_groups, &part.api_groups)
            && part
                .resources
                .iter()
                .all(|resource| self.covers_resource(resource))
            && names_covered
            && part
                .non_resource_urls
                .iter()
                .all(|url| self.allows_path(url))
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        self.resources.iter().any(|entry| {
            entry == "*"
                || entry == wanted
                || matches!(
                    (entry.split_once('/'), wanted.split_once('/')),
                    (Some(("*", sub)), Some((_, wanted_sub))) if sub == wanted_sub
                )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_subresource_is_another_resource() {
        let rule = Rule::resources(&["get"], &[""], &["pods"]);
        assert!(rule.allows(&asked("get", "pods", "", "a")));
        assert!(!rule.allows(&asked("get", "pods", "log", "a")));
        assert!(
            Rule::resources(&["get"], &[""], &["*/log"]).allows(&asked("get", "pods", "log", "a"))
        );
        assert!(Rule::resources(&["get"], &[""], &["*"]).allows(&asked("get", "pods", "log", "a")));
    }

    #[test]
    fn resource_names_limit_a_rule_and_never_match_a_collection() {
        let rule = Rule {
            resource_names: vec!["a".to_owned()],
            ..Rule::resources(&["*"], &["*"], &["pods"])
        };
        assert!(rule.allows(&asked("get", "pods", "", "a")));
        assert!(!rule.allows(&asked("list", "pods", "", "")));
    }

    #[test]
    fn paths_match_by_prefix_only_with_a_star() {
        let rule = Rule {
            verbs: vec!["get".to_owned()],
            non_resource_urls: vec!["/healthz".to_owned(), "/livez/*".to_owned()],
            ..Rule::default()
        };
        let path = |path: &str| Attributes {
            verb: "get".to_owned(),
            path: Some(path.to_owned()),
            ..Attributes::default()
        };
        assert!(rule.allows(&path("/healthz")));
        assert!(!rule.allows(&path("/healthz/etcd")));
        assert!(rule.allows(&path("/livez/etcd")));
    }
}
