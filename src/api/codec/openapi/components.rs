//! The models of a document: every type that is reached from the paths, once.

use std::collections::BTreeSet;

use schema::{FieldRef, Shape, ShapeRef, TypeRef};
use serde_json::{Map, Value, json};

use super::{Descriptions, Dialect};

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Collects models; asking for a reference makes sure that the model is there in the end.
pub(super) struct Components<'a> {
    pub(super) dialect: Dialect,
    descriptions: Option<&'a dyn Descriptions>,
    /// In version 3 a document speaks of one group version.
    group_version: Option<(&'a str, &'a str)>,
    schemas: Map<String, Value>,
    wanted: BTreeSet<String>,
}

impl<'a> Components<'a> {
    pub(super) fn new(
        dialect: Dialect,
        descriptions: Option<&'a dyn Descriptions>,
        group_version: Option<(&'a str, &'a str)>,
    ) -> Self {
        let (schemas, wanted) = (Map::new(), BTreeSet::new());
        Self {
            dialect,
            descriptions,
            group_version,
            schemas,
            wanted,
        }
    }

    /// A reference to a built-in model.
    pub(super) fn reference(&mut self, model: &str) -> Value {
        if !self.schemas.contains_key(model) {
            self.wanted.insert(model.to_owned());
        }
        self.dialect.reference(model)
    }

    pub(super) fn meta_reference(&mut self, name: &str) -> Value {
        self.reference(&format!("{META}.{name}"))
    }

    /// Adds a model that is made elsewhere.
    pub(super) fn insert(&mut self, model: String, schema: Value) {
        self.wanted.remove(&model);
        self.schemas.insert(model, schema);
    }

    /// All models, with what they refer to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(model) = self.wanted.pop_first() {
            if self.schemas.contains_key(&model) {
                continue;
            }
            // A model is never missing: one that nobody knows is any object.
            let mut schema = match (special(&model, self.dialect), schema::type_named(&model)) {
                (Some(special), _) => special,
                (None, Some(type_ref)) => self.structure(type_ref, &model),
                (None, None) => json!({"type": "object"}),
            };
            self.describe(&mut schema, &model, "");
            self.schemas.insert(model, schema);
        }
        self.schemas
    }

    pub(super) fn describe(&self, schema: &mut Value, model: &str, field: &str) {
        let description = self
            .descriptions
            .and_then(|from| from.describe(model, field));
        if let Some(description) = description {
            schema["description"] = Value::from(description);
        }
    }

    fn structure(&mut self, type_ref: TypeRef, model: &str) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in type_ref.fields() {
            let mut property = self.property(field);
            self.describe(&mut property, model, field.json_name());
            properties.insert(
                field.json_name().to_owned(),
                self.beside_reference(property),
            );
            if field.is_required() {
                required.push(field.json_name());
            }
        }
        let mut schema = json!({"type": "object"});
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if type_ref.is_atomic() {
            schema["x-kubernetes-map-type"] = Value::from("atomic");
        }
        let kinds = self.kinds_of(type_ref);
        if !kinds.is_empty() {
            schema["x-kubernetes-group-version-kind"] = Value::Array(kinds);
        }
        schema
    }

    fn kinds_of(&self, type_ref: TypeRef) -> Vec<Value> {
        let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
        let mut kinds = Vec::new();
        for found in schema::built_in_kinds().filter(|found| found.type_ref == type_ref) {
            if found.group != "meta.k8s.io" {
                kinds.push(kind(found.group, found.version, found.kind));
                continue;
            }
            // What is shared by all group versions is a kind of each of them.
            if !matches!(
                found.kind,
                "DeleteOptions"
                    | "WatchEvent"
                    | "Status"
                    | "APIGroup"
                    | "APIGroupList"
                    | "APIResourceList"
                    | "APIVersions"
            ) {
                continue;
            }
            kinds.push(kind("", "v1", found.kind));
            match self.group_version {
                Some(("", _)) => {}
                Some((group, version)) if matches!(found.kind, "DeleteOptions" | "WatchEvent") => {
                    kinds.push(kind(group, version, found.kind));
                }
                _ => {}
            }
        }
        kinds
    }

    fn property(&mut self, field: FieldRef) -> Value {
        let mut schema = self.shape(field.shape(), field.element_default_json());
        if let Some(format) = field.format() {
            schema["format"] = Value::from(format);
        }
        if self.dialect == Dialect::V3
            && let Some(default) = field.default_json()
        {
            schema["default"] = serde_json::from_str(default).expect("the facts hold JSON");
        }
        let values: Vec<&str> = field.enum_values().collect();
        if !values.is_empty() {
            let place = if schema.get("items").is_some() {
                &mut schema["items"]
            } else {
                &mut schema
            };
            place["enum"] = json!(values);
        }
        if let Some(list_type) = field.list_type() {
            schema["x-kubernetes-list-type"] = Value::from(list_type.as_str());
        }
        let keys: Vec<&str> = field.map_keys().collect();
        if !keys.is_empty() {
            schema["x-kubernetes-list-map-keys"] = json!(keys);
        }
        if let Some(strategy) = field.patch_strategy() {
            schema["x-kubernetes-patch-strategy"] = Value::from(strategy);
        }
        if let Some(key) = field.patch_merge_key() {
            schema["x-kubernetes-patch-merge-key"] = Value::from(key);
        }
        if let Some(map_type) = field.map_type() {
            schema["x-kubernetes-map-type"] = Value::from(map_type);
        }
        schema
    }

    /// In version 3 nothing may stand beside a `$ref`, so it is wrapped.
    fn beside_reference(&self, mut schema: Value) -> Value {
        let Some(map) = schema.as_object_mut() else {
            return schema;
        };
        if self.dialect == Dialect::V3 && map.len() > 1 && map.contains_key("$ref") {
            let reference = map.remove("$ref").expect("it was looked for");
            map.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
        }
        schema
    }

    fn shape(&mut self, shape: ShapeRef, element_default: Option<&str>) -> Value {
        match shape.shape() {
            Shape::String | Shape::Duration => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Float64 => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Struct(type_ref) => self.reference(type_ref.name()),
            Shape::List(element) | Shape::ListMessage(element) => {
                json!({"type": "array", "items": self.element(element, element_default)})
            }
            Shape::Map(element) => {
                let values = self.element(element, element_default);
                json!({"type": "object", "additionalProperties": values})
            }
            Shape::Quantity => self.reference("io.k8s.apimachinery.pkg.api.resource.Quantity"),
            Shape::Time => self.meta_reference("Time"),
            Shape::MicroTime => self.meta_reference("MicroTime"),
            Shape::IntOrString => self.reference("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
            Shape::RawExtension => self.reference("io.k8s.apimachinery.pkg.runtime.RawExtension"),
            Shape::FieldsV1 => self.meta_reference("FieldsV1"),
            Shape::Json => self.reference(&extensions_model("JSON")),
            Shape::SchemaOrBool(_) => self.reference(&extensions_model("JSONSchemaPropsOrBool")),
            Shape::SchemaOrArray(_) => self.reference(&extensions_model("JSONSchemaPropsOrArray")),
            Shape::SchemaOrStrings(_) => {
                self.reference(&extensions_model("JSONSchemaPropsOrStringArray"))
            }
            Shape::Any => json!({"type": "object"}),
        }
    }

    fn element(&mut self, shape: ShapeRef, default: Option<&str>) -> Value {
        // A text inside a list inside a map is never nil either.
        let nested = shape
            .element()
            .filter(|inner| inner.shape() == Shape::String);
        let mut schema = self.shape(shape, nested.map(|_| "\"\""));
        if self.dialect == Dialect::V3
            && let Some(default) = default
        {
            schema["default"] = serde_json::from_str(default).expect("the facts hold JSON");
        }
        self.beside_reference(schema)
    }
}

fn extensions_model(name: &str) -> String {
    format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{name}")
}

/// Models with an encoding of their own.
fn special(model: &str, dialect: Dialect) -> Option<Value> {
    let name = model.rsplit('.').next().unwrap_or_default();
    Some(match (name, dialect) {
        ("Quantity", Dialect::V2) => json!({"type": "string"}),
        ("Quantity", Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ("IntOrString", Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
        ("IntOrString", Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        ("Time" | "MicroTime", _) => json!({"type": "string", "format": "date-time"}),
        ("RawExtension" | "FieldsV1" | "Patch", _) => json!({"type": "object"}),
        (
            "JSON"
            | "JSONSchemaPropsOrBool"
            | "JSONSchemaPropsOrArray"
            | "JSONSchemaPropsOrStringArray",
            _,
        ) => json!({}),
        _ => return None,
    })
}
