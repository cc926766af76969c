//! The facts of every kind, and what follows from them alone.

mod facts;

pub use facts::{
    BuiltInKind, FieldRef, Fields, ListType, Shape, ShapeRef, TypeRef, built_in, built_in_kinds,
    type_named,
};
