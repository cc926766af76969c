//! What a definition may ask for upstream and is not built here yet: refused or told when it is written, never silently left out.

use apimachinery::{FieldError, FieldErrors, FieldPath, Object};
use serde_json::Value;

const RULES: &str = "x-kubernetes-validations";

/// The errors of a `CustomResourceDefinition` that asks for what its resources cannot do without.
pub fn unbuilt(definition: &Object) -> FieldErrors {
    let mut errors = FieldErrors::none();
    if definition.text_at(&["spec", "conversion", "strategy"]) == "Webhook" {
        let path = FieldPath::new("spec").child("conversion").child("strategy");
        errors.push(FieldError::forbidden(
            &path,
            "conversion by webhooks is not supported by this server yet",
        ));
    }
    errors
}

/// Warnings of what a definition asks for and its resources can do without: rules that nobody checks.
pub fn unchecked(definition: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    let versions = definition
        .at(&["spec", "versions"])
        .and_then(Value::as_array);
    for (at, version) in versions.into_iter().flatten().enumerate() {
        let path = FieldPath::new("spec")
            .child("versions")
            .index(at)
            .child("schema")
            .child("openAPIV3Schema");
        rules(&version["schema"]["openAPIV3Schema"], &path, &mut warnings);
    }
    warnings
}

/// The tree was decoded before, which limits its depth.
fn rules(schema: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    if schema
        .get(RULES)
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty())
    {
        warnings.push(format!(
            "{}: this server does not check validation rules yet",
            path.child(RULES)
        ));
    }
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        rules(property, &path.child("properties").key(name), warnings);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = schema.get(key).filter(|child| child.is_object()) {
            rules(child, &path.child(key), warnings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_and_webhooks_are_named_where_they_stand() {
        let definition = Object::from_value(
            json!({"spec": {"conversion": {"strategy": "Webhook"}, "versions": [{"schema": {
            "openAPIV3Schema": {"properties": {"a": {"items": {"x-kubernetes-validations": [{"rule": "true"}]}}}}}}]}}),
        )
        .expect("an object");
        let errors = unbuilt(&definition);
        let fields: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(fields, ["spec.conversion.strategy"]);
        let place =
            "spec.versions[0].schema.openAPIV3Schema.properties[a].items.x-kubernetes-validations";
        assert_eq!(
            unchecked(&definition),
            [format!(
                "{place}: this server does not check validation rules yet"
            )]
        );
    }
}
