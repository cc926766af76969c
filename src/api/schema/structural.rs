//! The schema of a custom resource as a `CustomResourceDefinition` gives it, read once and walked often.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::facts::ListType;
use crate::pattern::Pattern;

/// How deep a schema may nest; deeper ones could not describe an object that is accepted.
pub const SCHEMA_DEPTH_MAX: usize = 120;

/// One level of an `OpenAPI` v3 schema with the Kubernetes extensions.
#[allow(clippy::struct_excessive_bools)] // They are keywords that stand or do not stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Structural {
    pub value_type: Option<StructuralType>,
    pub properties: BTreeMap<String, Structural>,
    pub items: Option<Box<Structural>>,
    pub additional_properties: Option<AdditionalProperties>,
    pub default: Option<Value>,
    pub nullable: bool,
    pub preserve_unknown_fields: bool,
    pub embedded_resource: bool,
    pub int_or_string: bool,
    pub list_type: Option<ListType>,
    pub list_map_keys: Vec<String>,
    pub map_atomic: bool,
    /// The keywords that judge values; `None` where there are none.
    pub validation: Option<Box<Validation>>,
    /// `x-kubernetes-validations` as written: the rules are for the expression engine.
    pub rules: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StructuralType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl StructuralType {
    fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum AdditionalProperties {
    /// `additionalProperties: true`
    Anything,
    Schema(Box<Structural>),
}

/// The `OpenAPI` v3 keywords that judge a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    pub format: Option<String>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub enum_values: Vec<Value>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub all_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub not: Option<Structural>,
}

/// Why a schema cannot be read; its well-formedness beyond that is the business of validating the definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StructuralError {
    #[error("{path}: must be {expected}")]
    WrongType {
        path: String,
        expected: &'static str,
    },
    #[error("schema nests deeper than {SCHEMA_DEPTH_MAX} levels")]
    TooDeep,
}

impl Structural {
    /// Reads `spec.versions[*].schema.openAPIV3Schema`.
    pub fn from_json(schema: &Value) -> Result<Self, StructuralError> {
        Reader { path: Vec::new() }.schema(schema)
    }

    /// The validation keywords; empty ones where none are given.
    pub fn validation(&self) -> &Validation {
        static NONE: std::sync::LazyLock<Validation> =
            std::sync::LazyLock::new(Validation::default);
        self.validation.as_deref().unwrap_or(&NONE)
    }

    /// Whether any schema below (or this one) carries expression rules.
    pub fn has_rules(&self) -> bool {
        let below = self.properties.values().any(Self::has_rules);
        let items = self.items.as_deref().is_some_and(Self::has_rules);
        let values = match &self.additional_properties {
            Some(AdditionalProperties::Schema(values)) => values.has_rules(),
            _ => false,
        };
        !self.rules.is_empty() || below || items || values
    }
}

struct Reader<'a> {
    path: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn schema(&mut self, schema: &'a Value) -> Result<Structural, StructuralError> {
        if self.path.len() > SCHEMA_DEPTH_MAX {
            return Err(StructuralError::TooDeep);
        }
        let Some(map) = schema.as_object() else {
            return Err(self.wrong("an object"));
        };
        let value_type = self.text(map, "type")?.and_then(StructuralType::from_text);
        let validation = self.validation(map)?;
        Ok(Structural {
            value_type,
            properties: self.properties(map)?,
            items: self.items(map)?,
            additional_properties: self.additional_properties(map)?,
            default: map.get("default").filter(|value| !value.is_null()).cloned(),
            nullable: flag(map, "nullable"),
            preserve_unknown_fields: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(map, "x-kubernetes-embedded-resource"),
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            list_type: self
                .text(map, "x-kubernetes-list-type")?
                .map(ListType::from_text),
            list_map_keys: self.texts(map, "x-kubernetes-list-map-keys")?,
            map_atomic: self.text(map, "x-kubernetes-map-type")? == Some("atomic"),
            validation: (validation != Validation::default()).then(|| Box::new(validation)),
            rules: map
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
        })
    }

    fn at<T>(
        &mut self,
        name: &'a str,
        read: impl FnOnce(&mut Self) -> Result<T, StructuralError>,
    ) -> Result<T, StructuralError> {
        self.path.push(name);
        let found = read(self)?;
        self.path.pop();
        Ok(found)
    }

    fn wrong(&self, expected: &'static str) -> StructuralError {
        StructuralError::WrongType {
            path: self.path.join("."),
            expected,
        }
    }

    fn properties(
        &mut self,
        map: &'a Map<String, Value>,
    ) -> Result<BTreeMap<String, Structural>, StructuralError> {
        let mut properties = BTreeMap::new();
        if let Some(found) = map.get("properties").and_then(Value::as_object) {
            for (name, property) in found {
                properties.insert(
                    name.clone(),
                    self.at(name, |reader| reader.schema(property))?,
                );
            }
        }
        Ok(properties)
    }

    fn items(
        &mut self,
        map: &'a Map<String, Value>,
    ) -> Result<Option<Box<Structural>>, StructuralError> {
        match map.get("items") {
            None | Some(Value::Null) => Ok(None),
            Some(items) => Ok(Some(Box::new(
                self.at("items", |reader| reader.schema(items))?,
            ))),
        }
    }

    fn additional_properties(
        &mut self,
        map: &'a Map<String, Value>,
    ) -> Result<Option<AdditionalProperties>, StructuralError> {
        Ok(match map.get("additionalProperties") {
            None | Some(Value::Null | Value::Bool(false)) => None,
            Some(Value::Bool(true)) => Some(AdditionalProperties::Anything),
            Some(values) => {
                let schema = self.at("additionalProperties", |reader| reader.schema(values))?;
                Some(AdditionalProperties::Schema(Box::new(schema)))
            }
        })
    }

    fn validation(&mut self, map: &'a Map<String, Value>) -> Result<Validation, StructuralError> {
        Ok(Validation {
            format: self.text(map, "format")?.map(str::to_owned),
            maximum: map.get("maximum").and_then(Value::as_f64),
            exclusive_maximum: flag(map, "exclusiveMaximum"),
            minimum: map.get("minimum").and_then(Value::as_f64),
            exclusive_minimum: flag(map, "exclusiveMinimum"),
            max_length: integer(map, "maxLength"),
            min_length: integer(map, "minLength"),
            pattern: self.text(map, "pattern")?.map(Pattern::new),
            max_items: integer(map, "maxItems"),
            min_items: integer(map, "minItems"),
            unique_items: flag(map, "uniqueItems"),
            multiple_of: map.get("multipleOf").and_then(Value::as_f64),
            enum_values: map
                .get("enum")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            max_properties: integer(map, "maxProperties"),
            min_properties: integer(map, "minProperties"),
            required: self.texts(map, "required")?,
            all_of: self.schemas(map, "allOf")?,
            one_of: self.schemas(map, "oneOf")?,
            any_of: self.schemas(map, "anyOf")?,
            not: match map.get("not") {
                None | Some(Value::Null) => None,
                Some(not) => Some(self.at("not", |reader| reader.schema(not))?),
            },
        })
    }

    fn schemas(
        &mut self,
        map: &'a Map<String, Value>,
        key: &'static str,
    ) -> Result<Vec<Structural>, StructuralError> {
        let list = map
            .get(key)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        self.at(key, |reader| {
            list.iter().map(|schema| reader.schema(schema)).collect()
        })
    }

    fn text(
        &self,
        map: &'a Map<String, Value>,
        key: &'static str,
    ) -> Result<Option<&'a str>, StructuralError> {
        match map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(StructuralError::WrongType {
                path: format!("{}.{key}", self.path.join(".")),
                expected: "a string",
            }),
        }
    }

    fn texts(
        &self,
        map: &'a Map<String, Value>,
        key: &'static str,
    ) -> Result<Vec<String>, StructuralError> {
        let list = map
            .get(key)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        list.iter()
            .map(|text| {
                text.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| self.wrong("strings"))
            })
            .collect()
    }
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn integer(map: &Map<String, Value>, key: &str) -> Option<i64> {
    map.get(key).and_then(Value::as_i64)
}
