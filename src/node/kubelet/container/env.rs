//! The environment of a container: from config maps, secrets, the pod itself and Services, with references expanded.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapKeySelector, Container, EnvVar, Pod, Secret, SecretKeySelector,
};
use semantics::downward_api::{self, NodeFacts};

use crate::container::expand::expand;
use crate::container::{ConfigError, Result, refuse};
use crate::pods::facts::namespace;

/// A config map or secret that a container's environment names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    ConfigMap(String),
    Secret(String),
}

/// The objects that were found; what is missing here does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) services: BTreeMap<String, String>,
    pub(crate) facts: NodeFacts,
}

/// Everything that must be looked up before [`environment`] can be made.
pub(crate) fn references(container: &Container) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for from in container.env_from.iter().flatten() {
        found.extend(
            from.config_map_ref
                .as_ref()
                .map(|source| Reference::ConfigMap(source.name.clone())),
        );
        found.extend(
            from.secret_ref
                .as_ref()
                .map(|source| Reference::Secret(source.name.clone())),
        );
    }
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        found.extend(
            from.config_map_key_ref
                .as_ref()
                .map(|key| Reference::ConfigMap(key.name.clone())),
        );
        found.extend(
            from.secret_key_ref
                .as_ref()
                .map(|key| Reference::Secret(key.name.clone())),
        );
    }
    found
}

/// Variables in the order they are declared, those of `envFrom` and of Services around them; each name once.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>> {
    let mut made = Environment::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in values_from(pod, from, sources)? {
            made.set(format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, sources, &made)? {
            made.set(variable.name.clone(), value);
        }
    }
    for (name, value) in &sources.services {
        if !made.values.contains_key(name) {
            made.set(name.clone(), value.clone());
        }
    }
    Ok(made.into_list())
}

#[derive(Default)]
struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        if self.values.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }

    fn into_list(mut self) -> Vec<(String, String)> {
        let order = std::mem::take(&mut self.order);
        order
            .into_iter()
            .filter_map(|name| self.values.remove_entry(&name))
            .collect()
    }
}

type EnvFrom = k8s_openapi::api::core::v1::EnvFromSource;

fn values_from(pod: &Pod, from: &EnvFrom, sources: &Sources) -> Result<Vec<(String, String)>> {
    if let Some(source) = &from.config_map_ref {
        return match sources.config_maps.get(&source.name) {
            Some(found) => Ok(found.data.clone().unwrap_or_default().into_iter().collect()),
            None if source.optional == Some(true) => Ok(Vec::new()),
            None => refuse(format!("configmap {:?} not found", source.name)),
        };
    }
    let Some(source) = &from.secret_ref else {
        return Ok(Vec::new());
    };
    match sources.secrets.get(&source.name) {
        Some(found) => found
            .data
            .iter()
            .flatten()
            .map(|(key, value)| Ok((key.clone(), text_of(&value.0, pod, &source.name, key)?)))
            .collect(),
        None if source.optional == Some(true) => Ok(Vec::new()),
        None => refuse(format!("secret {:?} not found", source.name)),
    }
}

/// `None`: the variable is optional and its source is missing.
fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
    made: &Environment,
) -> Result<Option<String>> {
    if let Some(value) = variable.value.as_deref().filter(|value| !value.is_empty()) {
        let known = |name: &str| {
            made.values
                .get(name)
                .or_else(|| sources.services.get(name))
                .cloned()
        };
        return Ok(Some(expand(value, known)));
    }
    let Some(from) = &variable.value_from else {
        return Ok(Some(String::new()));
    };
    if let Some(field) = &from.field_ref {
        return downward_api::field(pod, &field.field_path, &sources.facts)
            .map(Some)
            .map_err(ConfigError);
    }
    if let Some(selector) = &from.resource_field_ref {
        return downward_api::resource(pod, Some(container), selector, &sources.facts)
            .map(Some)
            .map_err(ConfigError);
    }
    if let Some(key) = &from.config_map_key_ref {
        return config_map_value(pod, key, sources);
    }
    if let Some(key) = &from.secret_key_ref {
        return secret_value(pod, key, sources);
    }
    if from.file_key_ref.is_some() {
        return refuse(format!(
            "variable {}: fileKeyRef is not supported by this node",
            variable.name
        ));
    }
    Ok(Some(String::new()))
}

fn config_map_value(
    pod: &Pod,
    key: &ConfigMapKeySelector,
    sources: &Sources,
) -> Result<Option<String>> {
    let optional = key.optional == Some(true);
    let Some(found) = sources.config_maps.get(&key.name) else {
        return missing(optional, format!("configmap {:?} not found", key.name));
    };
    match found.data.as_ref().and_then(|data| data.get(&key.key)) {
        Some(value) => Ok(Some(value.clone())),
        None => missing(optional, no_key(pod, "ConfigMap", &key.name, &key.key)),
    }
}

fn secret_value(pod: &Pod, key: &SecretKeySelector, sources: &Sources) -> Result<Option<String>> {
    let optional = key.optional == Some(true);
    let Some(found) = sources.secrets.get(&key.name) else {
        return missing(optional, format!("secret {:?} not found", key.name));
    };
    match found.data.as_ref().and_then(|data| data.get(&key.key)) {
        Some(value) => text_of(&value.0, pod, &key.name, &key.key).map(Some),
        None => missing(optional, no_key(pod, "Secret", &key.name, &key.key)),
    }
}

fn no_key(pod: &Pod, kind: &str, name: &str, key: &str) -> String {
    format!(
        "couldn't find key {key} in {kind} {}/{name}",
        namespace(pod)
    )
}

fn missing(optional: bool, text: String) -> Result<Option<String>> {
    if optional { Ok(None) } else { refuse(text) }
}

fn text_of(bytes: &[u8], pod: &Pod, name: &str, key: &str) -> Result<String> {
    match String::from_utf8(bytes.to_vec()) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => refuse(format!(
            "key {key} of Secret {}/{name} cannot be a variable: it is not text",
            namespace(pod)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn make(container: serde_json::Value) -> Result<Vec<(String, String)>> {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}})).unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).unwrap();
        let sources = Sources {
            config_maps: [("m".to_owned(), map)].into(),
            services: [("S_HOST".to_owned(), "10.0.0.1".to_owned())].into(),
            ..Sources::default()
        };
        environment(&pod, &container, &sources)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn env_overrules_env_from_and_may_refer_to_it_and_to_services() {
        let made = make(
            json!({"name": "c", "envFrom": [{"prefix": "x-", "configMapRef": {"name": "m"}}],
            "env": [{"name": "x-b", "value": "3"}, {"name": "c", "value": "$(x-a)$(x-b)$(S_HOST)"}]}),
        );
        assert_eq!(
            made.unwrap(),
            [
                pair("x-a", "1"),
                pair("x-b", "3"),
                pair("c", "1310.0.0.1"),
                pair("S_HOST", "10.0.0.1")
            ]
        );
    }

    #[test]
    fn a_missing_source_is_an_error_unless_it_is_optional() {
        let key = |optional: bool| {
            json!({"name": "c", "env": [{"name": "v", "valueFrom":
            {"configMapKeyRef": {"name": "m", "key": "z", "optional": optional}}}]})
        };
        assert_eq!(
            make(key(false)).unwrap_err().0,
            "couldn't find key z in ConfigMap n/m"
        );
        assert_eq!(make(key(true)).unwrap(), [pair("S_HOST", "10.0.0.1")]);
    }
}
