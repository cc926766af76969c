//! `create role|clusterrole|rolebinding|clusterrolebinding`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::error::{Error, Result};

const API_GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

#[derive(Args)]
pub(super) struct Role {
    name: String,
    #[command(flatten)]
    rules: Rules,
}

#[derive(Args)]
pub(super) struct ClusterRole {
    name: String,
    #[command(flatten)]
    rules: Rules,
    /// Path that is no resource, such as /logs/*
    #[arg(long, value_delimiter = ',', value_name = "PATH")]
    non_resource_url: Vec<String>,
}

#[derive(Args)]
struct Rules {
    /// What may be done: get,list,watch,...
    #[arg(long, required = true, value_delimiter = ',', value_name = "VERB")]
    verb: Vec<String>,
    /// With which kinds: pods, deployments.apps, pods/log
    #[arg(long, value_delimiter = ',', value_name = "RESOURCE")]
    resource: Vec<String>,
    /// With these objects only
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    resource_name: Vec<String>,
}

impl Rules {
    /// One rule an API group.
    fn read(&self, catalogue: &Catalogue) -> Result<Vec<Value>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in &self.resource {
            let (name, subresource) = match resource.split_once('/') {
                Some((name, subresource)) => (name, format!("/{subresource}")),
                None => (resource.as_str(), String::new()),
            };
            if name == "*" {
                groups
                    .entry("*".to_owned())
                    .or_default()
                    .push(resource.clone());
                continue;
            }
            let kind = catalogue.find(name)?;
            let name = format!("{}{subresource}", kind.resource.resource);
            groups
                .entry(kind.resource.group.to_string())
                .or_default()
                .push(name);
        }
        let rules = groups.into_iter().map(|(group, resources)| {
            let mut rule =
                json!({"apiGroups": [group], "resources": resources, "verbs": self.verb});
            if !self.resource_name.is_empty() {
                rule["resourceNames"] = json!(self.resource_name);
            }
            rule
        });
        Ok(rules.collect())
    }
}

impl Role {
    pub(super) fn object(&self, catalogue: &Catalogue) -> Result<Value> {
        let rules = self.rules.read(catalogue)?;
        if rules.is_empty() {
            return Err(Error::usage("at least one resource must be specified"));
        }
        Ok(
            json!({"apiVersion": API_VERSION, "kind": "Role", "metadata": {"name": self.name}, "rules": rules}),
        )
    }
}

impl ClusterRole {
    pub(super) fn object(&self, catalogue: &Catalogue) -> Result<Value> {
        let mut rules = self.rules.read(catalogue)?;
        if !self.non_resource_url.is_empty() {
            rules.push(json!({"nonResourceURLs": self.non_resource_url, "verbs": self.rules.verb}));
        }
        if rules.is_empty() {
            return Err(Error::usage(
                "one of resource or nonResourceURL must be specified",
            ));
        }
        Ok(
            json!({"apiVersion": API_VERSION, "kind": "ClusterRole", "metadata": {"name": self.name}, "rules": rules}),
        )
    }
}

#[derive(Args)]
pub(super) struct RoleBinding {
    name: String,
    /// The role
    #[arg(long, conflicts_with = "clusterrole", value_name = "NAME")]
    role: Option<String>,
    /// The cluster role
    #[arg(long, value_name = "NAME")]
    clusterrole: Option<String>,
    #[command(flatten)]
    subjects: Subjects,
}

#[derive(Args)]
pub(super) struct ClusterRoleBinding {
    name: String,
    /// The cluster role
    #[arg(long, value_name = "NAME")]
    clusterrole: String,
    #[command(flatten)]
    subjects: Subjects,
}

#[derive(Args)]
struct Subjects {
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    user: Vec<String>,
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    group: Vec<String>,
    /// NAMESPACE:NAME
    #[arg(long, value_delimiter = ',', value_name = "ACCOUNT")]
    serviceaccount: Vec<String>,
}

impl Subjects {
    fn read(&self) -> Result<Vec<Value>> {
        let named = |kind: &'static str| move |name: &String| json!({"apiGroup": API_GROUP, "kind": kind, "name": name});
        let mut subjects: Vec<Value> = self.user.iter().map(named("User")).collect();
        subjects.extend(self.group.iter().map(named("Group")));
        for account in &self.serviceaccount {
            let (namespace, name) = account
                .split_once(':')
                .ok_or_else(|| Error::usage("serviceaccount must be <namespace>:<name>"))?;
            subjects.push(json!({"kind": "ServiceAccount", "namespace": namespace, "name": name}));
        }
        Ok(subjects)
    }
}

fn binding(kind: &str, name: &str, role_kind: &str, role: &str, subjects: Vec<Value>) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": API_GROUP, "kind": role_kind, "name": role},
        "subjects": subjects,
    })
}

impl RoleBinding {
    pub(super) fn object(&self) -> Result<Value> {
        let (kind, role) = match (&self.role, &self.clusterrole) {
            (Some(role), None) => ("Role", role),
            (None, Some(role)) => ("ClusterRole", role),
            _ => {
                return Err(Error::usage(
                    "exactly one of clusterrole or role must be specified",
                ));
            }
        };
        Ok(binding(
            "RoleBinding",
            &self.name,
            kind,
            role,
            self.subjects.read()?,
        ))
    }
}

impl ClusterRoleBinding {
    pub(super) fn object(&self) -> Result<Value> {
        let subjects = self.subjects.read()?;
        Ok(binding(
            "ClusterRoleBinding",
            &self.name,
            "ClusterRole",
            &self.clusterrole,
            subjects,
        ))
    }
}
