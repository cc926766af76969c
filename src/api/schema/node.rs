//! One view of what a value may look like, whether the built-in facts say it or a custom resource's schema.

use std::sync::LazyLock;

use serde_json::Value;

use crate::facts::{FieldRef, ListType, Shape, ShapeRef, TypeRef, type_named};
use crate::structural::{AdditionalProperties, Structural, StructuralType};

/// A place in a schema; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub enum Node<'a> {
    /// An object of a built-in type.
    Type(TypeRef),
    /// The value of a field of a built-in type.
    Field(FieldRef),
    /// An element of a list or map of built-in types.
    Element(ShapeRef),
    /// A value under a custom resource.
    Custom(&'a Structural),
    /// A custom resource as a whole, or a resource embedded in one: `kind`, `apiVersion` and `metadata` are known.
    CustomResource(&'a Structural),
}

/// What a place holds, in the terms that walkers branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A single value: text, number, time …
    Scalar(Shape),
    /// Named fields.
    Struct,
    List,
    /// String keys, equal values.
    Map,
    /// Anything, unknown to the schema.
    Any,
}

static OBJECT_META: LazyLock<TypeRef> = LazyLock::new(|| {
    type_named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("every object has it")
});

static TEXT: LazyLock<FieldRef> =
    LazyLock::new(|| OBJECT_META.field("name").expect("a name is a plain string"));

/// The type of `metadata`.
pub fn object_meta() -> TypeRef {
    *OBJECT_META
}

impl<'a> Node<'a> {
    /// The built-in shape; `None` under a custom resource and for whole objects.
    pub fn shape_ref(self) -> Option<ShapeRef> {
        match self {
            Self::Field(field) => Some(field.shape()),
            Self::Element(shape) => Some(shape),
            Self::Type(_) | Self::Custom(_) | Self::CustomResource(_) => None,
        }
    }

    pub fn is_built_in(self) -> bool {
        matches!(self, Self::Type(_) | Self::Field(_) | Self::Element(_))
    }

    /// The struct type of a built-in object.
    pub fn type_ref(self) -> Option<TypeRef> {
        match self {
            Self::Type(type_ref) => Some(type_ref),
            _ => self.shape_ref()?.struct_type(),
        }
    }

    pub fn kind(self) -> NodeKind {
        match self {
            Self::Type(_) | Self::CustomResource(_) => NodeKind::Struct,
            Self::Field(field) => shape_kind(field.shape().shape()),
            Self::Element(shape) => shape_kind(shape.shape()),
            Self::Custom(schema) => custom_kind(schema),
        }
    }

    /// The node of a named field of a struct.
    pub fn field(self, name: &str) -> Option<Node<'a>> {
        match self {
            Self::Custom(schema) => schema.properties.get(name).map(Node::of_custom),
            Self::CustomResource(schema) => match name {
                "metadata" => Some(Node::Type(object_meta())),
                "kind" | "apiVersion" => Some(Node::Field(*TEXT)),
                _ => schema.properties.get(name).map(Node::of_custom),
            },
            _ => self.type_ref()?.field(name).map(Node::Field),
        }
    }

    /// The node of the elements of a list, or of the values of a map.
    pub fn element(self) -> Option<Node<'a>> {
        match self {
            Self::Custom(schema) | Self::CustomResource(schema) => {
                if let Some(items) = &schema.items {
                    return Some(Node::of_custom(items));
                }
                match &schema.additional_properties {
                    Some(AdditionalProperties::Schema(values)) => Some(Node::of_custom(values)),
                    _ => None,
                }
            }
            _ => self.shape_ref()?.element().map(Node::Element),
        }
    }

    /// The node under a key of an object: a named field, else the value of a map.
    pub fn child(self, name: &str) -> Option<Node<'a>> {
        self.field(name).or_else(|| match self.kind() {
            NodeKind::List => None,
            _ => self.element(),
        })
    }

    pub(crate) fn of_custom(schema: &'a Structural) -> Self {
        if schema.embedded_resource {
            Self::CustomResource(schema)
        } else {
            Self::Custom(schema)
        }
    }

    /// How server-side apply merges a list; atomic where nothing is said.
    pub fn list_type(self) -> ListType {
        match self {
            Self::Field(field) => field.list_type().unwrap_or(ListType::Atomic),
            Self::Custom(schema) => schema.list_type.unwrap_or(ListType::Atomic),
            _ => ListType::Atomic,
        }
    }

    /// The keys of a list of type `map`.
    pub fn map_keys(self) -> Vec<&'a str> {
        match self {
            Self::Field(field) => field.map_keys().collect(),
            Self::Custom(schema) => schema.list_map_keys.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether server-side apply replaces the struct or map as a whole.
    pub fn is_map_atomic(self) -> bool {
        match self {
            Self::Type(type_ref) => type_ref.is_atomic(),
            Self::Field(field) => field.is_map_atomic(),
            Self::Element(shape) => shape.struct_type().is_some_and(TypeRef::is_atomic),
            Self::Custom(schema) | Self::CustomResource(schema) => schema.map_atomic,
        }
    }

    /// The strategies of strategic merge; custom resources have none.
    pub fn patch_strategy(self) -> Option<&'static str> {
        match self {
            Self::Field(field) => field.patch_strategy(),
            _ => None,
        }
    }

    pub fn patch_merge_key(self) -> Option<&'static str> {
        match self {
            Self::Field(field) => field.patch_merge_key(),
            _ => None,
        }
    }

    /// The default of this value, where the schema gives one.
    pub fn default(self) -> Option<Value> {
        match self {
            Self::Field(field) => {
                let text = field.default_json()?;
                Some(serde_json::from_str(text).expect("the generator writes JSON"))
            }
            Self::Custom(schema) | Self::CustomResource(schema) => schema.default.clone(),
            _ => None,
        }
    }

    /// Whether `null` is a value of its own here.
    pub fn is_nullable(self) -> bool {
        match self {
            Self::Custom(schema) | Self::CustomResource(schema) => schema.nullable,
            _ => false,
        }
    }

    /// Whether fields that the schema does not name are kept.
    pub fn preserves_unknown_fields(self) -> bool {
        match self {
            Self::Custom(schema) | Self::CustomResource(schema) => schema.preserve_unknown_fields,
            _ => self.kind() == NodeKind::Any,
        }
    }
}

impl From<TypeRef> for Node<'_> {
    fn from(type_ref: TypeRef) -> Self {
        Self::Type(type_ref)
    }
}

fn shape_kind(shape: Shape) -> NodeKind {
    match shape {
        Shape::Struct(_) => NodeKind::Struct,
        Shape::List(_) | Shape::ListMessage(_) => NodeKind::List,
        Shape::Map(_) => NodeKind::Map,
        Shape::RawExtension | Shape::FieldsV1 | Shape::Json | Shape::Any => NodeKind::Any,
        Shape::SchemaOrBool(_) | Shape::SchemaOrArray(_) | Shape::SchemaOrStrings(_) => {
            NodeKind::Any
        }
        scalar => NodeKind::Scalar(scalar),
    }
}

fn custom_kind(schema: &Structural) -> NodeKind {
    if schema.int_or_string {
        return NodeKind::Scalar(Shape::IntOrString);
    }
    match schema.value_type {
        Some(StructuralType::String) => NodeKind::Scalar(Shape::String),
        Some(StructuralType::Boolean) => NodeKind::Scalar(Shape::Bool),
        Some(StructuralType::Integer) => NodeKind::Scalar(Shape::Int64),
        Some(StructuralType::Number) => NodeKind::Scalar(Shape::Float64),
        Some(StructuralType::Array) => NodeKind::List,
        Some(StructuralType::Object) if schema.additional_properties.is_some() => NodeKind::Map,
        Some(StructuralType::Object) => NodeKind::Struct,
        None => NodeKind::Any,
    }
}
