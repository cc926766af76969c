//! One face for every kind, built in or custom: the type is erased once, here.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use apimachinery::{
    FieldErrors, GroupResource, GroupVersionKind, GroupVersionResource, NameRule, Object,
    zero_times,
};
use env::Timestamp;
use schema::Node;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::column_descriptions;
use crate::strategy::{
    DefaultCascade, DeleteAnswer, Generation, Permission, Retention, StatusMetadata,
    StatusOnCreate, Strategy, Subresource, Verbs,
};

type Text = Cow<'static, str>;

/// Everything about a kind that is data.
#[derive(Clone, Debug)]
pub struct Description {
    pub kind: GroupVersionKind,
    pub list_kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    pub scope: Scope,
    pub verbs: Verbs,
    pub subresources: Vec<Subresource>,
    pub name_rule: NameRule,
    pub generation: Generation,
    pub status_on_create: StatusOnCreate,
    pub status_metadata: StatusMetadata,
    pub unconditional_update: Permission,
    pub create_on_update: Permission,
    pub delete_answer: DeleteAnswer,
    pub default_cascade: DefaultCascade,
    pub retention: Retention,
    /// Paths of [`crate::Strategy::HEARTBEATS`].
    pub heartbeats: &'static [&'static [&'static str]],
    /// What the store holds; differs from `kind` for a second served version.
    pub stored_kind: GroupVersionKind,
    /// Where the store holds it: `/registry/pods/`. Ends in a slash.
    pub prefix: String,
    pub selectable_fields: Vec<SelectablePath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// A field that selectors may name, and where its value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectablePath {
    pub name: &'static str,
    /// Split paths; the first with a value counts.
    pub paths: Vec<Vec<Text>>,
    pub fallback: Text,
}

impl Description {
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn resource(&self) -> GroupVersionResource {
        self.kind.group_version().resource(self.plural.clone())
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.kind.group.clone(),
            resource: self.plural.clone(),
        }
    }

    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }

    /// Whether what is stored is what is served.
    pub fn is_stored_version(&self) -> bool {
        self.kind == self.stored_kind
    }

    /// Whether a field selector may name `field`.
    pub fn is_selectable(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.is_namespaced())
            || self
                .selectable_fields
                .iter()
                .any(|selectable| selectable.name == field)
    }
}

/// The head of a column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    pub name: Text,
    pub kind: Text,
    pub format: Text,
    pub description: Text,
    pub priority: i32,
}

/// An object does not fit its own type; the decoder lets none through, so it comes from the store or from a plugin.
#[derive(Debug, thiserror::Error)]
#[error("{kind} cannot be read as its type: {source}")]
pub struct HookError {
    kind: GroupVersionKind,
    source: serde_json::Error,
}

/// What validation found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub errors: FieldErrors,
    pub warnings: Vec<String>,
}

/// One kind: data, hooks and columns, without its type.
pub trait Resource: Debug + Send + Sync {
    fn description(&self) -> Description;

    /// The shape of objects of this kind.
    fn schema(&self) -> Node<'_>;

    /// After decoding, before admission, and again after a plugin changed something.
    fn default(&self, object: &mut Object) -> Result<(), HookError>;

    /// Prepares an object that will be created, and validates it. Metadata, status and generation are done.
    fn check_create(&self, object: &mut Object) -> Result<Verdict, HookError>;

    fn check_update(&self, object: &mut Object, old: &Object) -> Result<Verdict, HookError>;

    fn check_status_update(&self, object: &mut Object, old: &Object) -> Result<Verdict, HookError>;

    /// Validates a write to a part of the object other than its status: `/resize`, `/ephemeralcontainers`, `/finalize`, `/approval`.
    fn check_subresource_update(
        &self,
        _subresource: Subresource,
        _object: &Object,
        _old: &Object,
    ) -> Result<Verdict, HookError> {
        Ok(Verdict::default())
    }

    /// From the served version to the stored one.
    fn to_stored(&self, _object: &mut Object) {}

    /// From the stored version to the served one.
    #[expect(
        clippy::wrong_self_convention,
        reason = "the stored form is converted, not this"
    )]
    fn from_stored(&self, _object: &mut Object) {}

    fn columns(&self) -> Vec<ColumnDefinition>;

    /// The cells of one row, from the JSON of the served version.
    fn row(&self, object: &[u8], now: Timestamp) -> Result<Vec<Value>, HookError>;

    /// The `openAPIV3Schema` of a custom kind; built-in kinds have theirs in the facts.
    fn open_api_schema(&self) -> Option<Value> {
        None
    }

    /// Whether stored bytes are served as they are, or an object has to be converted or completed first.
    fn is_served_as_stored(&self) -> bool {
        self.description().is_stored_version()
    }

    /// Where `/scale` finds its numbers in a custom resource; built-in kinds have theirs in one place.
    fn scale_paths(&self) -> Option<ScalePaths> {
        None
    }
}

/// Split paths into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    pub label_selector: Option<Vec<String>>,
}

/// A resource that lives as long as the program, or as long as somebody holds it.
#[derive(Clone, Debug)]
pub enum ResourceHandle {
    BuiltIn(&'static dyn Resource),
    Dynamic(Arc<dyn Resource>),
}

impl Deref for ResourceHandle {
    type Target = dyn Resource;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::BuiltIn(resource) => *resource,
            Self::Dynamic(resource) => &**resource,
        }
    }
}

fn names(of: &'static [&'static str]) -> Vec<Text> {
    of.iter().map(|&name| Cow::Borrowed(name)).collect()
}

fn kind_of<S: Strategy>() -> GroupVersionKind {
    type K<S> = <S as Strategy>::Kind;
    GroupVersionKind::new(
        <K<S> as k8s_openapi::Resource>::GROUP,
        <K<S> as k8s_openapi::Resource>::VERSION,
        <K<S> as k8s_openapi::Resource>::KIND,
    )
}

fn selectable_paths<S: Strategy>() -> Vec<SelectablePath> {
    S::SELECTABLE_FIELDS
        .iter()
        .map(|field| SelectablePath {
            name: field.name,
            paths: field
                .paths
                .iter()
                .map(|path| path.split('.').map(Cow::Borrowed).collect())
                .collect(),
            fallback: Cow::Borrowed(field.fallback),
        })
        .collect()
}

fn read<S: Strategy>(object: &Object) -> Result<S::Kind, HookError> {
    typed(object).map_err(|source| HookError {
        kind: kind_of::<S>(),
        source,
    })
}

/// Times that were never set are spelled out also where the type could do without, so that they come back as they were.
fn typed<K: DeserializeOwned>(object: &Object) -> Result<K, serde_json::Error> {
    if !zero_times::is_any(object.0.values()) {
        return object.to_typed();
    }
    let mut object = object.clone();
    object.0.values_mut().for_each(zero_times::spell_out);
    object.to_typed()
}

/// Writes a typed object back into the tree, but only if a hook changed it: what no hook touched stays as the client wrote it.
fn write_back<S: Strategy>(object: &mut Object, before: &S::Kind, after: &S::Kind) {
    if before == after {
        return;
    }
    if let Some(mut changed) = Object::from_typed(after) {
        changed.0.values_mut().for_each(zero_times::fold);
        *object = changed;
    }
}

fn change<S: Strategy>(
    object: &mut Object,
    hook: impl FnOnce(&mut S::Kind) -> Verdict,
) -> Result<Verdict, HookError> {
    let before = read::<S>(object)?;
    let mut after = before.clone();
    let verdict = hook(&mut after);
    write_back::<S>(object, &before, &after);
    Ok(verdict)
}

impl<S: Strategy> Resource for S
where
    S::Kind: Serialize + DeserializeOwned,
{
    fn description(&self) -> Description {
        let kind = kind_of::<S>();
        let plural = <S::Kind as k8s_openapi::Resource>::URL_PATH_SEGMENT;
        let (stored_kind, stored_plural) = match S::STORED_AS {
            Some(stored) => (
                GroupVersionKind::new(stored.group, stored.version, stored.kind),
                stored.plural,
            ),
            None => (kind.clone(), plural),
        };
        Description {
            list_kind: format!("{}List", kind.kind).into(),
            plural: plural.into(),
            singular: kind.kind.to_lowercase().into(),
            short_names: names(S::SHORT_NAMES),
            categories: names(S::CATEGORIES),
            scope: scope_of::<<S::Kind as k8s_openapi::Resource>::Scope>(),
            verbs: S::VERBS,
            subresources: S::SUBRESOURCES.to_vec(),
            name_rule: S::NAME_RULE,
            generation: S::GENERATION,
            status_on_create: S::STATUS_ON_CREATE,
            status_metadata: S::STATUS_METADATA,
            unconditional_update: S::UNCONDITIONAL_UPDATE,
            create_on_update: S::CREATE_ON_UPDATE,
            delete_answer: S::DELETE_ANSWER,
            default_cascade: S::DEFAULT_CASCADE,
            retention: S::RETENTION,
            heartbeats: S::HEARTBEATS,
            stored_kind,
            prefix: format!("/registry/{stored_plural}/"),
            selectable_fields: selectable_paths::<S>(),
            kind,
        }
    }

    fn schema(&self) -> Node<'_> {
        let kind = kind_of::<S>();
        let found = schema::built_in(&kind.group, &kind.version, &kind.kind);
        Node::Type(found.expect("a table-wide test looks up the facts of every built-in kind"))
    }

    fn default(&self, object: &mut Object) -> Result<(), HookError> {
        change::<S>(object, |object| {
            S::default(object);
            Verdict::default()
        })
        .map(drop)
    }

    fn check_create(&self, object: &mut Object) -> Result<Verdict, HookError> {
        change::<S>(object, |object| {
            S::prepare_for_create(object);
            let mut errors = S::validate(object);
            errors.extend(S::validate_create(object));
            Verdict {
                errors,
                warnings: S::warnings(object),
            }
        })
    }

    fn check_update(&self, object: &mut Object, old: &Object) -> Result<Verdict, HookError> {
        let old = read::<S>(old)?;
        change::<S>(object, |object| {
            S::prepare_for_update(object, &old);
            let mut errors = S::validate(object);
            errors.extend(S::validate_update(object, &old));
            Verdict {
                errors,
                warnings: S::warnings_on_update(object, &old),
            }
        })
    }

    fn check_subresource_update(
        &self,
        subresource: Subresource,
        object: &Object,
        old: &Object,
    ) -> Result<Verdict, HookError> {
        let errors =
            S::validate_subresource_update(subresource, &read::<S>(object)?, &read::<S>(old)?);
        Ok(Verdict {
            errors,
            warnings: Vec::new(),
        })
    }

    fn check_status_update(&self, object: &mut Object, old: &Object) -> Result<Verdict, HookError> {
        let old = read::<S>(old)?;
        change::<S>(object, |object| {
            S::prepare_for_status_update(object, &old);
            Verdict {
                errors: S::validate_status_update(object, &old),
                warnings: Vec::new(),
            }
        })
    }

    fn to_stored(&self, object: &mut Object) {
        if let Some(stored) = S::STORED_AS {
            (stored.to_stored)(object);
            object.set_group_version_kind(&GroupVersionKind::new(
                stored.group,
                stored.version,
                stored.kind,
            ));
        }
    }

    fn from_stored(&self, object: &mut Object) {
        if let Some(stored) = S::STORED_AS {
            (stored.from_stored)(object);
            object.set_group_version_kind(&kind_of::<S>());
        }
    }

    fn columns(&self) -> Vec<ColumnDefinition> {
        let resource = self.description().group_resource().to_string();
        if S::COLUMNS.is_empty() {
            return [("Name", "string", "name"), ("Created At", "date", "")]
                .map(|(name, kind, format)| definition(&resource, name, kind, format, 0))
                .into();
        }
        S::COLUMNS
            .iter()
            .map(|column| {
                definition(
                    &resource,
                    column.name,
                    column.kind,
                    column.format,
                    column.priority,
                )
            })
            .collect()
    }

    fn row(&self, object: &[u8], now: Timestamp) -> Result<Vec<Value>, HookError> {
        let refuse = |source| HookError {
            kind: kind_of::<S>(),
            source,
        };
        let object: S::Kind = apimachinery::from_json(object).map_err(refuse)?;
        if S::COLUMNS.is_empty() {
            let metadata = <S::Kind as k8s_openapi::Metadata>::metadata(&object);
            return Ok(vec![
                metadata.name.clone().unwrap_or_default().into(),
                crate::metadata_columns::created_at(metadata),
            ]);
        }
        Ok(S::COLUMNS
            .iter()
            .map(|column| (column.cell)(&object, now))
            .collect())
    }
}

fn definition(
    resource: &str,
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: i32,
) -> ColumnDefinition {
    let description = column_descriptions::find(resource, name).into();
    ColumnDefinition {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        description,
        priority,
    }
}

/// The scope is a type that only differs by name.
fn scope_of<T: 'static>() -> Scope {
    let namespaced = std::any::TypeId::of::<k8s_openapi::NamespaceResourceScope>();
    if std::any::TypeId::of::<T>() == namespaced {
        Scope::Namespaced
    } else {
        Scope::Cluster
    }
}

/// An empty metadata, for objects that are made up on the spot.
pub fn empty_object(kind: &GroupVersionKind) -> Object {
    let mut object = Object(Map::new());
    object.set_group_version_kind(kind);
    object
}
