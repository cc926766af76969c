//! What a message is made of: the fields of a type in the order they are written in, found once for each type.

use std::sync::{LazyLock, OnceLock};

use schema::{FieldRef, Shape, ShapeRef, TypeRef};

/// The message of a type.
pub(super) struct Message {
    /// The highest number first: messages are written backwards.
    pub(super) parts: Vec<Part>,
    /// The names in JSON, sorted by length and letters: each has a place of its own, also those of embedded structs.
    names: Vec<(&'static str, usize)>,
}

pub(super) enum Part {
    Field(Field),
    /// A struct whose fields stand in JSON among those of its owner.
    Embedded {
        tag: u32,
        parts: Vec<Part>,
    },
}

pub(super) struct Field {
    pub(super) tag: u32,
    pub(super) name: &'static str,
    pub(super) shape: ShapeRef,
    pub(super) place: usize,
    /// Whether Go writes the field although it was never set.
    pub(super) is_always_sent: bool,
}

impl Message {
    pub(super) fn of(type_ref: TypeRef) -> &'static Self {
        static MESSAGES: LazyLock<Vec<OnceLock<Message>>> =
            LazyLock::new(|| TypeRef::all().map(|_| OnceLock::new()).collect());
        MESSAGES[type_ref.index()].get_or_init(|| Self::new(type_ref))
    }

    fn new(type_ref: TypeRef) -> Self {
        let mut names = Vec::new();
        let parts = parts(type_ref, &mut names);
        names.sort_unstable_by_key(|(name, _)| by_length(name));
        Self { parts, names }
    }

    /// How many places the values of an object need.
    pub(super) fn places(&self) -> usize {
        self.names.len()
    }

    /// The place of the value with this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        let found = self
            .names
            .binary_search_by_key(&by_length(name), |(one, _)| by_length(one));
        found.ok().map(|index| self.names[index].1)
    }
}

/// Most names differ in their length, which is cheap to compare.
fn by_length(name: &str) -> (usize, &str) {
    (name.len(), name)
}

fn parts(type_ref: TypeRef, names: &mut Vec<(&'static str, usize)>) -> Vec<Part> {
    let sent = |field: FieldRef| Some((field.proto_tag()?, field));
    let mut fields: Vec<_> = type_ref.declared_fields().filter_map(sent).collect();
    fields.sort_unstable_by_key(|(tag, _)| std::cmp::Reverse(*tag));
    let part = |(tag, field): (u32, FieldRef)| {
        if field.is_inline() {
            let inner = field.shape().struct_type();
            let inner = inner.expect("only structs are embedded");
            let parts = parts(inner, names);
            return Part::Embedded { tag, parts };
        }
        let (name, place) = (field.json_name(), names.len());
        names.push((name, place));
        Part::Field(Field {
            tag,
            name,
            shape: field.shape(),
            place,
            is_always_sent: !field.is_pointer() && is_always_sent(field.shape()),
        })
    };
    fields.into_iter().map(part).collect()
}

/// Whether Go writes a value like this although it is empty; lists, maps and what can be nil are not.
pub(super) fn is_always_sent(shape: ShapeRef) -> bool {
    !matches!(
        shape.shape(),
        Shape::List(_) | Shape::Map(_) | Shape::ListMessage(_) | Shape::Bytes | Shape::Any
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_place() {
        for type_ref in TypeRef::all() {
            let names = &Message::of(type_ref).names;
            assert!(
                names.is_sorted_by(|one, next| by_length(one.0) < by_length(next.0)),
                "{type_ref:?}"
            );
        }
    }
}
