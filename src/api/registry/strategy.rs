//! What is special about one kind: everything a kind's file may say, each with a default.

use std::fmt::Debug;

use apimachinery::{FieldErrors, NameRule, Object};
use env::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is special about one kind. All of it has defaults. Hooks are pure: no store, no clock, no user.
///
/// Names, versions and scope come from the type. The order of hooks on a write is: `default`, mutating admission, the rules
/// for status and generation, `prepare_…`, `validate…`, validating admission.
pub trait Strategy: Debug + Send + Sync + 'static {
    type Kind: Typed;

    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const VERBS: Verbs = Verbs::All;
    const SUBRESOURCES: &'static [Subresource] = &[];
    const NAME_RULE: NameRule = NameRule::DnsSubdomain;
    const GENERATION: Generation = Generation::Untracked;
    const STATUS_ON_CREATE: StatusOnCreate = StatusOnCreate::Cleared;
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Writable;
    /// Whether an update may leave out the resourceVersion.
    const UNCONDITIONAL_UPDATE: Permission = Permission::Allowed;
    /// Whether an update of an object that does not exist creates it.
    const CREATE_ON_UPDATE: Permission = Permission::Refused;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Status;
    const DEFAULT_CASCADE: DefaultCascade = DefaultCascade::Background;
    const RETENTION: Retention = Retention::Durable;
    /// Fields that say when somebody was last there, each as a path in which `*` is every item of a list. An update that changes
    /// nothing else is kept as relaxedly as [`Retention::Relaxed`] says.
    const HEARTBEATS: &'static [&'static [&'static str]] = &[];
    const STORED_AS: Option<StoredAs> = None;

    /// Every column in order, [`Column::name`] first; none: name and time of creation, as upstream shows what has no printer.
    const COLUMNS: &'static [Column<Self::Kind>] = &[];
    /// Beyond `metadata.name` and `metadata.namespace`.
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[];

    /// After decoding, before admission.
    fn default(_object: &mut Self::Kind) {}
    /// After mutating admission.
    fn prepare_for_create(_object: &mut Self::Kind) {}
    /// After mutating admission. Status and generation already follow the common rules.
    fn prepare_for_update(_object: &mut Self::Kind, _old: &Self::Kind) {}
    /// For writes to `/status`: everything but the status and a few metadata fields already is the old object's.
    fn prepare_for_status_update(_object: &mut Self::Kind, _old: &Self::Kind) {}
    /// Metadata is validated before, for all kinds alike.
    fn validate(_object: &Self::Kind) -> FieldErrors {
        FieldErrors::none()
    }
    /// Called besides `validate`: what only holds for an object that is being created.
    fn validate_create(_object: &Self::Kind) -> FieldErrors {
        FieldErrors::none()
    }
    /// Called besides `validate`, not instead of it.
    fn validate_update(_object: &Self::Kind, _old: &Self::Kind) -> FieldErrors {
        FieldErrors::none()
    }
    fn validate_status_update(_object: &Self::Kind, _old: &Self::Kind) -> FieldErrors {
        FieldErrors::none()
    }
    /// For writes to a part of the object that is no status. The object is the old one but for that part.
    fn validate_subresource_update(
        _subresource: Subresource,
        _object: &Self::Kind,
        _old: &Self::Kind,
    ) -> FieldErrors {
        FieldErrors::none()
    }
    fn warnings(_object: &Self::Kind) -> Vec<String> {
        Vec::new()
    }
    fn warnings_on_update(object: &Self::Kind, _old: &Self::Kind) -> Vec<String> {
        Self::warnings(object)
    }
}

/// The Rust type of a kind.
pub trait Typed:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + PartialEq
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<T> Typed for T where
    T: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + PartialEq
        + Debug
        + Send
        + Sync
        + 'static
{
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Allowed,
    Refused,
}

/// What can be done with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    All,
    /// Namespaces: a collection of them is never deleted at once.
    AllButDeleteCollection,
    /// Questions that are answered and not kept: access reviews, bindings.
    Create,
    /// Component statuses: made up on the spot.
    GetAndList,
}

impl Verbs {
    /// The names, sorted, as discovery lists them.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::All => &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
            Self::AllButDeleteCollection => &[
                "create", "delete", "get", "list", "patch", "update", "watch",
            ],
            Self::Create => &["create"],
            Self::GetAndList => &["get", "list"],
        }
    }

    pub fn contains(self, verb: &str) -> bool {
        self.names().contains(&verb)
    }

    pub fn is_stored(self) -> bool {
        matches!(self, Self::All | Self::AllButDeleteCollection)
    }
}

/// What hangs below an object in the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subresource {
    Approval,
    Attach,
    Binding,
    EphemeralContainers,
    Eviction,
    Exec,
    Finalize,
    Log,
    PortForward,
    Proxy,
    Resize,
    Scale,
    Status,
    Token,
}

impl Subresource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Attach => "attach",
            Self::Binding => "binding",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Eviction => "eviction",
            Self::Exec => "exec",
            Self::Finalize => "finalize",
            Self::Log => "log",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Resize => "resize",
            Self::Scale => "scale",
            Self::Status => "status",
            Self::Token => "token",
        }
    }

    /// The verbs, sorted, as discovery lists them.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status
            | Self::Scale
            | Self::Approval
            | Self::EphemeralContainers
            | Self::Resize => &["get", "patch", "update"],
            Self::Finalize => &["update"],
            Self::Log => &["get"],
            Self::Attach | Self::Exec | Self::PortForward => &["create", "get"],
            Self::Proxy => &["create", "delete", "get", "patch", "update"],
            Self::Binding | Self::Eviction | Self::Token => &["create"],
        }
    }
}

/// When an object's generation grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    Untracked,
    /// 1 from the start and never more.
    One,
    /// With each change of `spec`.
    Spec,
    /// The same, but a new object has none yet.
    SpecFromNone,
    /// With each change outside of metadata and status.
    Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusOnCreate {
    Cleared,
    /// Nodes: whoever creates one may say how it is.
    Kept,
}

/// What of an object's metadata a write to its `/status` may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusMetadata {
    /// Labels, annotations, finalizers and owners.
    Writable,
    WithoutLabels,
    WithoutOwners,
    /// Nothing.
    Fixed,
}

/// What happens to dependents when a delete says nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultCascade {
    Background,
    /// As the first clients of these kinds expect it.
    Orphan,
}

/// What a finished delete answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteAnswer {
    /// A `metav1.Status` that names the object.
    Status,
    /// The object in its last state.
    Object,
}

/// How long, and how safely, the store keeps objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    Durable,
    /// Renewed all the time and worthless after a crash: node leases.
    Relaxed,
    /// Deleted by the store some time after the last write, in seconds.
    Seconds(u32),
}

/// A second served version of a kind: how it is stored as the first, and read back.
#[derive(Clone, Copy, Debug)]
pub struct StoredAs {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// The stored plural, which names the place in the store.
    pub plural: &'static str,
    pub to_stored: fn(&mut Object),
    pub from_stored: fn(&mut Object),
}

/// A field that selectors may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As clients write it: `spec.nodeName`.
    pub name: &'static str,
    /// Dotted paths in the object; the first with a value counts.
    pub paths: &'static [&'static str],
    /// Where none has a value: `false` for flags, empty for texts.
    pub fallback: &'static str,
}

impl SelectableField {
    /// A text whose path is its name.
    pub const fn text(name: &'static str, path: &'static [&'static str]) -> Self {
        Self {
            name,
            paths: path,
            fallback: "",
        }
    }

    pub const fn with_fallback(
        name: &'static str,
        path: &'static [&'static str],
        fallback: &'static str,
    ) -> Self {
        Self {
            name,
            paths: path,
            fallback,
        }
    }
}

/// One column of `kubectl get`. What it means is told by the table of descriptions.
pub struct Column<K> {
    pub name: &'static str,
    /// `OpenAPI` type: `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// `OpenAPI` format: `name`, or empty.
    pub format: &'static str,
    /// 0 is always shown; above only in wide output.
    pub priority: i32,
    pub cell: fn(&K, Timestamp) -> Value,
}

impl<K> Column<K> {
    pub const fn text(name: &'static str, cell: fn(&K, Timestamp) -> Value) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            priority: 0,
            cell,
        }
    }

    pub const fn integer(name: &'static str, cell: fn(&K, Timestamp) -> Value) -> Self {
        Self {
            kind: "integer",
            ..Self::text(name, cell)
        }
    }

    pub const fn boolean(name: &'static str, cell: fn(&K, Timestamp) -> Value) -> Self {
        Self {
            kind: "boolean",
            ..Self::text(name, cell)
        }
    }

    /// A text shown in wide output only.
    pub const fn wide_text(name: &'static str, cell: fn(&K, Timestamp) -> Value) -> Self {
        Self {
            priority: 1,
            ..Self::text(name, cell)
        }
    }

    /// Shown in wide output only.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

impl<K: k8s_openapi::Metadata<Ty = ObjectMeta>> Column<K> {
    pub const fn name() -> Self {
        Self {
            format: "name",
            ..Self::text("Name", |object, _| {
                object.metadata().name.clone().unwrap_or_default().into()
            })
        }
    }

    pub const fn age() -> Self {
        Self::text("Age", |object, now| {
            crate::metadata_columns::age(object.metadata(), now)
        })
    }
}

impl<K> Debug for Column<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Column")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
