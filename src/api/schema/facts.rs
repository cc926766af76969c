//! The facts of the built-in kinds: one read-only table that is made from upstream's types and never parsed as a whole.
//!
//! Handles are small `Copy` numbers into the table; following one costs a few loads and no allocation.
//! `cargo xtask gen` writes `facts.bin`; its layout is described where it is written and checked when it is read.

use std::fmt;

static BLOB: &[u8] = include_bytes!("facts.bin");

const MAGIC: &[u8; 4] = b"KFCT";
const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Copy)]
enum Table {
    Kinds,
    Types,
    Shapes,
    Fields,
    Extras,
    Strings,
}

impl Table {
    const fn record_size(self) -> usize {
        match self {
            Self::Kinds | Self::Types => 16,
            Self::Shapes | Self::Extras => 8,
            Self::Fields => 12,
            Self::Strings => 1,
        }
    }
}

const fn u16_at(at: usize) -> u16 {
    u16::from_le_bytes([BLOB[at], BLOB[at + 1]])
}

const fn u32_at(at: usize) -> u32 {
    u32::from_le_bytes([BLOB[at], BLOB[at + 1], BLOB[at + 2], BLOB[at + 3]])
}

// A blob of another layout would be read as nonsense, so it does not compile.
const _: () = assert!(
    BLOB[0] == MAGIC[0] && BLOB[1] == MAGIC[1] && BLOB[2] == MAGIC[2] && BLOB[3] == MAGIC[3]
);
const _: () = assert!(u32_at(4) == FORMAT_VERSION);

const fn count(table: Table) -> usize {
    u32_at(8 + 8 * table as usize) as usize
}

const OFFSETS: [usize; 6] = {
    let mut offsets = [0; 6];
    let mut index = 0;
    while index < 6 {
        offsets[index] = u32_at(12 + 8 * index) as usize;
        index += 1;
    }
    offsets
};

const fn record(table: Table, index: usize) -> usize {
    OFFSETS[table as usize] + index * table.record_size()
}

/// The text that a string reference at this place of the blob names.
fn text_at(at: usize) -> &'static str {
    std::str::from_utf8(bytes_at(at)).expect("the generator writes UTF-8 only")
}

fn bytes_at(at: usize) -> &'static [u8] {
    let start = record(Table::Strings, u32_at(at) as usize);
    let length = usize::from(u16_at(start));
    &BLOB[start + 2..start + 2 + length]
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Extra {
    ListType = 1,
    MapKeys,
    PatchStrategy,
    PatchMergeKey,
    Default,
    Enum,
    FeatureGate,
    MapType,
    Markers,
    Format,
    ItemDefault,
}

fn extra(first: usize, length: usize, key: Extra) -> Option<&'static str> {
    (first..first + length)
        .map(|index| record(Table::Extras, index))
        .find(|&at| BLOB[at + 4] == key as u8)
        .map(text_at)
}

/// Returns the type of a built-in kind; the group is "" for core, and kinds that every group version shares
/// (`DeleteOptions`, `Status`, `WatchEvent` …) are found under any group version.
pub fn built_in(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    find_kind(group, version, kind).or_else(|| find_kind("meta.k8s.io", "v1", kind))
}

fn find_kind(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    let wanted = (group.as_bytes(), version.as_bytes(), kind.as_bytes());
    let (mut low, mut high) = (0, count(Table::Kinds));
    while low < high {
        let middle = low.midpoint(high);
        let at = record(Table::Kinds, middle);
        let found = (bytes_at(at), bytes_at(at + 4), bytes_at(at + 8));
        match found.cmp(&wanted) {
            std::cmp::Ordering::Equal => return Some(TypeRef(u16_at(at + 12))),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// A built-in kind: where it is served and what it looks like.
#[derive(Clone, Copy, Debug)]
pub struct BuiltInKind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub type_ref: TypeRef,
}

/// Every kind of the table, sorted by group, version and kind; lists and option kinds are among them.
pub fn built_in_kinds() -> impl Iterator<Item = BuiltInKind> {
    (0..count(Table::Kinds)).map(|index| {
        let at = record(Table::Kinds, index);
        BuiltInKind {
            group: text_at(at),
            version: text_at(at + 4),
            kind: text_at(at + 8),
            type_ref: TypeRef(u16_at(at + 12)),
        }
    })
}

/// The type with this `OpenAPI` model name, such as `io.k8s.api.core.v1.PodSpec`.
pub fn type_named(model_name: &str) -> Option<TypeRef> {
    TypeRef::all().find(|found| bytes_at(found.at()) == model_name.as_bytes())
}

/// A struct type of the built-in API.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeRef(u16);

impl TypeRef {
    pub fn all() -> impl Iterator<Item = Self> {
        (0..count(Table::Types)).map(|index| Self(u16::try_from(index).expect("indexes are u16")))
    }

    /// The place of the type in the order of [`Self::all`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    fn at(self) -> usize {
        record(Table::Types, self.index())
    }

    /// The `OpenAPI` model name, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn name(self) -> &'static str {
        text_at(self.at())
    }

    /// The bare name of the Go type, as it stands in decoding errors: `PodSpec`.
    pub fn go_name(self) -> &'static str {
        text_at(self.at() + 4)
    }

    /// The Go type with its package, as decoding errors name a whole value: `v1.PodSpec`.
    pub fn go_type(self) -> String {
        let package = self.name().rsplit('.').nth(1).unwrap_or_default();
        format!("{package}.{}", self.go_name())
    }

    /// The fields as Go declares them, embedded structs as one field each; protobuf messages nest like this.
    pub fn declared_fields(self) -> impl DoubleEndedIterator<Item = FieldRef> + Clone {
        let first = u16_at(self.at() + 8);
        (first..first + u16_at(self.at() + 10)).map(FieldRef)
    }

    /// The fields as JSON shows them: embedded structs dissolved, in the order Go writes them.
    pub fn fields(self) -> Fields {
        Fields {
            stack: vec![(u16_at(self.at() + 8), u16_at(self.at() + 10))],
        }
    }

    /// The field with this JSON name, looked for in embedded structs too.
    pub fn field(self, json_name: &str) -> Option<FieldRef> {
        self.field_through(json_name, &mut Vec::new())
    }

    /// As [`Self::field`], and adds the Go names of the embedded structs that the field is reached through.
    pub(crate) fn field_through(
        self,
        json_name: &str,
        embedded: &mut Vec<&'static str>,
    ) -> Option<FieldRef> {
        let own = |field: &FieldRef| bytes_at(field.at()) == json_name.as_bytes();
        if let Some(field) = self.declared_fields().find(own) {
            return Some(field).filter(|field| !field.is_inline());
        }
        for field in self.declared_fields().filter(|field| field.is_inline()) {
            let inner = field.shape().struct_type()?;
            embedded.push(inner.go_name());
            if let Some(found) = inner.field_through(json_name, embedded) {
                return Some(found);
            }
            embedded.pop();
        }
        None
    }

    /// Whether objects of this type are replaced as a whole by server-side apply.
    pub fn is_atomic(self) -> bool {
        self.extra(Extra::MapType) == Some("atomic")
    }

    fn extra(self, key: Extra) -> Option<&'static str> {
        let at = self.at();
        extra(
            usize::from(u16_at(at + 12)),
            usize::from(u16_at(at + 14)),
            key,
        )
    }
}

impl fmt::Debug for TypeRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Iterates over the fields of a type as JSON shows them.
#[derive(Clone, Debug)]
pub struct Fields {
    stack: Vec<(u16, u16)>,
}

impl Iterator for Fields {
    type Item = FieldRef;

    fn next(&mut self) -> Option<FieldRef> {
        loop {
            let (first, left) = self.stack.last_mut()?;
            if *left == 0 {
                self.stack.pop();
                continue;
            }
            let field = FieldRef(*first);
            *first += 1;
            *left -= 1;
            match field.shape().struct_type() {
                Some(inner) if field.is_inline() => {
                    self.stack
                        .push((u16_at(inner.at() + 8), u16_at(inner.at() + 10)));
                }
                _ => return Some(field),
            }
        }
    }
}

/// A field of a built-in struct type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldRef(u16);

const FLAG_OMIT_EMPTY: u8 = 1;
const FLAG_OMIT_ZERO: u8 = 2;
const FLAG_POINTER: u8 = 4;
const FLAG_INLINE: u8 = 8;
const FLAG_REQUIRED: u8 = 16;
const FLAG_GATE_OFF: u8 = 32;

impl FieldRef {
    fn at(self) -> usize {
        record(Table::Fields, usize::from(self.0))
    }

    /// The name in JSON; "" for an embedded struct.
    pub fn json_name(self) -> &'static str {
        text_at(self.at())
    }

    /// The field number in protobuf; `None` where upstream does not send the field (`kind`, `apiVersion`).
    pub fn proto_tag(self) -> Option<u32> {
        match u16_at(self.at() + 4) {
            0 => None,
            tag => Some(u32::from(tag)),
        }
    }

    pub fn shape(self) -> ShapeRef {
        ShapeRef(u16_at(self.at() + 6))
    }

    fn flag(self, flag: u8) -> bool {
        BLOB[self.at() + 11] & flag != 0
    }

    /// Left out of JSON when empty: `false`, 0, "", no elements, a nil pointer.
    pub fn omit_empty(self) -> bool {
        self.flag(FLAG_OMIT_EMPTY)
    }

    /// Left out of JSON when it is the zero value, structs included.
    pub fn omit_zero(self) -> bool {
        self.flag(FLAG_OMIT_ZERO)
    }

    /// Whether Go keeps a pointer here, so that absent and zero differ.
    pub fn is_pointer(self) -> bool {
        self.flag(FLAG_POINTER)
    }

    /// An embedded struct, whose fields appear in JSON as those of its owner.
    pub fn is_inline(self) -> bool {
        self.flag(FLAG_INLINE)
    }

    /// Listed as required in `OpenAPI`.
    pub fn is_required(self) -> bool {
        self.flag(FLAG_REQUIRED)
    }

    /// The feature gate the field stands behind.
    pub fn feature_gate(self) -> Option<&'static str> {
        self.extra(Extra::FeatureGate)
    }

    /// Whether the field stands behind a gate that is off by default in this release: such fields are dropped on write.
    pub fn is_gated_off(self) -> bool {
        self.flag(FLAG_GATE_OFF)
    }

    /// How server-side apply merges the list; `None` where upstream says nothing (lists are then atomic).
    pub fn list_type(self) -> Option<ListType> {
        self.extra(Extra::ListType).map(ListType::from_text)
    }

    /// The keys of a list of type `map`, by JSON name.
    pub fn map_keys(self) -> impl Iterator<Item = &'static str> {
        lines(self.extra(Extra::MapKeys))
    }

    /// Whether the struct or map in this field is replaced as a whole by server-side apply; what the field says
    /// overrules its type.
    pub fn is_map_atomic(self) -> bool {
        match self.map_type() {
            Some(map_type) => map_type == "atomic",
            None => self.shape().struct_type().is_some_and(TypeRef::is_atomic),
        }
    }

    /// `atomic` or `granular`, where the field itself says so.
    pub fn map_type(self) -> Option<&'static str> {
        self.extra(Extra::MapType)
    }

    /// The strategies of strategic merge: `merge`, `replace`, `retainKeys`, or two of them with a comma.
    pub fn patch_strategy(self) -> Option<&'static str> {
        self.extra(Extra::PatchStrategy)
    }

    pub fn patch_merge_key(self) -> Option<&'static str> {
        self.extra(Extra::PatchMergeKey)
    }

    /// The default as JSON text. For values that are always there it is the zero value; upstream's defaulting
    /// functions know more.
    pub fn default_json(self) -> Option<&'static str> {
        self.extra(Extra::Default)
    }

    /// The default of an element as JSON text, as `OpenAPI` v3 shows it.
    pub fn element_default_json(self) -> Option<&'static str> {
        self.extra(Extra::ItemDefault)
    }

    /// The legal values of a string (or of the strings in a list); none where any string is legal.
    pub fn enum_values(self) -> impl Iterator<Item = &'static str> {
        lines(self.extra(Extra::Enum))
    }

    /// The `format` of the field in `OpenAPI`.
    pub fn format(self) -> Option<&'static str> {
        self.extra(Extra::Format)
    }

    /// The declarative validation tags (`+k8s:` markers) without their prefix: `required`, `maxItems=16` …
    pub fn validation_tags(self) -> impl Iterator<Item = &'static str> {
        lines(self.extra(Extra::Markers))
    }

    fn extra(self, key: Extra) -> Option<&'static str> {
        let at = self.at();
        extra(usize::from(u16_at(at + 8)), usize::from(BLOB[at + 10]), key)
    }
}

impl fmt::Debug for FieldRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}",
            self.json_name(),
            self.shape().go_name()
        )
    }
}

fn lines(text: Option<&'static str>) -> impl Iterator<Item = &'static str> {
    text.unwrap_or("").lines()
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

impl ListType {
    /// Reads an `x-kubernetes-list-type`; what is unknown is atomic, as upstream has it.
    pub fn from_text(text: &str) -> Self {
        match text {
            "set" => Self::Set,
            "map" => Self::Map,
            _ => Self::Atomic,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Atomic => "atomic",
            Self::Set => "set",
            Self::Map => "map",
        }
    }
}

/// The shape of a value: what Go would decode it into.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShapeRef(u16);

/// What a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Float64,
    /// Base64 text in JSON.
    Bytes,
    Struct(TypeRef),
    List(ShapeRef),
    /// A map with string keys.
    Map(ShapeRef),
    Quantity,
    Time,
    MicroTime,
    Duration,
    IntOrString,
    /// Any object as it stands; in protobuf its JSON text.
    RawExtension,
    FieldsV1,
    /// Any JSON value; in protobuf its text.
    Json,
    /// `JSONSchemaPropsOrBool`.
    SchemaOrBool(TypeRef),
    /// `JSONSchemaPropsOrArray`.
    SchemaOrArray(TypeRef),
    /// `JSONSchemaPropsOrStringArray`.
    SchemaOrStrings(TypeRef),
    /// Any JSON value that protobuf cannot carry.
    Any,
    /// A list that protobuf wraps into a message of its own (`Verbs`, `ExtraValue`).
    ListMessage(ShapeRef),
}

impl ShapeRef {
    fn at(self) -> usize {
        record(Table::Shapes, usize::from(self.0))
    }

    /// The Go type as decoding errors print it: `int32`, `[]v1.Container`, `map[string]string`.
    pub fn go_name(self) -> &'static str {
        text_at(self.at())
    }

    pub fn shape(self) -> Shape {
        let argument = u16_at(self.at() + 4);
        match BLOB[self.at() + 6] {
            0 => Shape::String,
            1 => Shape::Bool,
            2 => Shape::Int32,
            3 => Shape::Int64,
            4 => Shape::Float64,
            5 => Shape::Bytes,
            6 => Shape::Struct(TypeRef(argument)),
            7 => Shape::List(Self(argument)),
            8 => Shape::Map(Self(argument)),
            9 => Shape::Quantity,
            10 => Shape::Time,
            11 => Shape::MicroTime,
            12 => Shape::Duration,
            13 => Shape::IntOrString,
            14 => Shape::RawExtension,
            15 => Shape::FieldsV1,
            16 => Shape::Json,
            17 => Shape::SchemaOrBool(TypeRef(argument)),
            18 => Shape::SchemaOrArray(TypeRef(argument)),
            19 => Shape::SchemaOrStrings(TypeRef(argument)),
            21 => Shape::ListMessage(Self(argument)),
            _ => Shape::Any,
        }
    }

    /// The struct type, where the value is a plain struct.
    pub fn struct_type(self) -> Option<TypeRef> {
        match self.shape() {
            Shape::Struct(type_ref) => Some(type_ref),
            _ => None,
        }
    }

    /// The shape of the elements of a list or map.
    pub fn element(self) -> Option<Self> {
        match self.shape() {
            Shape::List(element) | Shape::Map(element) | Shape::ListMessage(element) => {
                Some(element)
            }
            _ => None,
        }
    }
}

impl fmt::Debug for ShapeRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.go_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_carries_what_strategic_merge_and_apply_need() {
        let pod_spec = type_named("io.k8s.api.core.v1.PodSpec").unwrap();
        let containers = pod_spec.field("containers").unwrap();
        assert_eq!(containers.list_type(), Some(ListType::Map));
        assert_eq!(containers.map_keys().collect::<Vec<_>>(), ["name"]);
        assert_eq!(containers.patch_strategy(), Some("merge"));
        assert_eq!(containers.patch_merge_key(), Some("name"));
        assert_eq!(containers.proto_tag(), Some(2));
        assert!(containers.is_required());
        assert_eq!(containers.shape().go_name(), "[]v1.Container");
    }

    #[test]
    fn a_field_overrules_how_its_type_is_merged() {
        let field = |owner, name| type_named(owner).unwrap().field(name).unwrap();
        assert!(!field("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef").is_map_atomic());
        assert!(field("io.k8s.api.core.v1.Event", "involvedObject").is_map_atomic());
        assert!(field("io.k8s.api.core.v1.PodSpec", "nodeSelector").is_map_atomic());
    }

    #[test]
    fn embedded_structs_dissolve_in_json_and_nest_in_protobuf() {
        let volume = type_named("io.k8s.api.core.v1.Volume").unwrap();
        assert!(volume.field("emptyDir").is_some());
        assert!(volume.fields().all(|field| !field.is_inline()));
        assert_eq!(volume.declared_fields().count(), 2);
    }

    #[test]
    fn kinds_are_found_by_group_version_and_the_shared_ones_everywhere() {
        let deployment = built_in("apps", "v1", "Deployment").unwrap();
        assert_eq!(deployment.name(), "io.k8s.api.apps.v1.Deployment");
        assert_eq!(
            built_in("batch", "v1", "DeleteOptions").unwrap().go_name(),
            "DeleteOptions"
        );
        assert_eq!(built_in("", "v1", "Status").unwrap().go_name(), "Status");
        assert!(built_in("apps", "v1beta1", "Deployment").is_none());
    }

    #[test]
    fn every_handle_of_the_table_can_be_followed() {
        for type_ref in TypeRef::all() {
            assert!(!type_ref.name().is_empty());
            for field in type_ref.declared_fields() {
                assert_eq!(field.is_inline(), field.json_name().is_empty());
                assert!(!field.shape().go_name().is_empty());
                let _ = (
                    field.shape().shape(),
                    field.default_json(),
                    field.enum_values().count(),
                );
            }
        }
    }
}
