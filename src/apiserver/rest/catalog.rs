//! Every kind that is served now: the built-in ones and the live custom ones, found by one lookup.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{GroupVersion, Object, StoredObject};
use registry::{Description, RESOURCES, ResourceHandle};
use storage::Collection;

use apimachinery::ApiError;

/// One kind in one version, ready to be served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) description: Description,
    pub(crate) resource: ResourceHandle,
    pub(crate) collection: Collection,
    pub(crate) origin: Origin,
    is_served_as_stored: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    Custom,
}

/// Group version and plural.
type Key = (String, String, String);

/// All kinds. It never changes; a new one takes its place when a custom kind comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    by_path: BTreeMap<Key, Arc<Served>>,
    /// In the order of the table, custom kinds last.
    order: Vec<Arc<Served>>,
}

impl Served {
    fn new(resource: ResourceHandle, origin: Origin, stored: Option<&Description>) -> Self {
        let description = resource.description();
        // One version of an object has one index, so all served versions select by the stored version's fields.
        let collection = Collection::of(stored.unwrap_or(&description));
        let collection = Collection {
            resource: description.group_resource(),
            ..collection
        };
        let is_served_as_stored = resource.is_served_as_stored();
        Self {
            description,
            resource,
            collection,
            origin,
            is_served_as_stored,
        }
    }

    /// The object as clients of this version see it, with its resourceVersion.
    pub(crate) fn tree(&self, stored: &StoredObject) -> Result<Object, ApiError> {
        let mut object = stored.to_object().map_err(ApiError::internal)?;
        if !self.is_served_as_stored {
            self.complete(&mut object)?;
        }
        Ok(object)
    }

    /// The bytes, without resourceVersion, as clients of this version see them.
    pub(crate) fn bytes(&self, stored: &StoredObject) -> Result<Arc<[u8]>, ApiError> {
        if self.is_served_as_stored {
            return Ok(stored.bytes.clone());
        }
        let mut object = Object::from_slice(&stored.bytes).map_err(ApiError::internal)?;
        self.complete(&mut object)?;
        let mut tree = object.into_value();
        schema::canonicalise(&mut tree, self.resource.schema());
        let object = Object::from_value(tree)
            .ok_or_else(|| ApiError::internal("a stored object is no object"))?;
        Ok(codec::encode_stored(&object.into_value()).into())
    }

    /// To this version; custom resources also get what their schema says now.
    fn complete(&self, object: &mut Object) -> Result<(), ApiError> {
        if !self.description.is_stored_version() {
            self.resource.from_stored(object);
        }
        if let schema::Node::CustomResource(schema) = self.resource.schema() {
            let mut tree = std::mem::take(object).into_value();
            schema::prune(&mut tree, schema);
            *object = Object::from_value(tree).unwrap_or_default();
            self.resource.default(object).map_err(ApiError::internal)?;
        }
        Ok(())
    }

    /// A selectable field's name in the stored version.
    pub(crate) fn stored_field(&self, field: &str) -> String {
        if self.description.is_stored_version() {
            return field.to_owned();
        }
        let known = self
            .description
            .selectable_fields
            .iter()
            .find(|selectable| selectable.name == field);
        known
            .and_then(|selectable| selectable.paths.first())
            .map_or_else(|| field.to_owned(), |path| path.join("."))
    }
}

impl Catalog {
    pub(crate) fn new(custom: impl IntoIterator<Item = ResourceHandle>) -> Self {
        let mut catalog = Self::default();
        let built_in: Vec<Description> = RESOURCES
            .iter()
            .map(|resource| resource.description())
            .collect();
        for resource in RESOURCES {
            let description = resource.description();
            let stored = built_in
                .iter()
                .find(|other| other.kind == description.stored_kind);
            catalog.add(Served::new(
                ResourceHandle::BuiltIn(*resource),
                Origin::BuiltIn,
                stored,
            ));
        }
        for resource in custom {
            catalog.add(Served::new(resource, Origin::Custom, None));
        }
        catalog
    }

    fn add(&mut self, served: Served) {
        let kind = &served.description.kind;
        let key = (
            kind.group.to_string(),
            kind.version.to_string(),
            served.description.plural.to_string(),
        );
        let served = Arc::new(served);
        if let std::collections::btree_map::Entry::Vacant(free) = self.by_path.entry(key) {
            free.insert(served.clone());
            self.order.push(served);
        }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        self.by_path
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    pub(crate) fn has_group_version(&self, group: &str, version: &str) -> bool {
        self.order.iter().any(|served| {
            served.description.kind.group == group && served.description.kind.version == version
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.order.iter()
    }

    /// Groups with their versions, preferred first, in the order clients expect.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for served in &self.order {
            let GroupVersion { group, version } = served.description.kind.group_version();
            match groups.iter_mut().find(|(name, _)| *name == group) {
                Some((_, versions)) => {
                    if !versions.contains(&version.to_string()) {
                        versions.push(version.into_owned());
                    }
                }
                None => groups.push((group.into_owned(), vec![version.into_owned()])),
            }
        }
        groups.sort_by_key(|(name, _)| {
            GROUP_ORDER
                .iter()
                .position(|known| known == name)
                .unwrap_or(GROUP_ORDER.len())
        });
        for (_, versions) in &mut groups {
            versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        }
        groups
    }
}

/// The built-in groups by upstream's priorities; custom groups follow by name.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

/// Kubernetes' order of versions: stable before beta before alpha, higher numbers first.
fn version_priority(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    let digits = rest
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse() else {
        return (0, 0, 0);
    };
    let minor = |text: &str| text.parse().unwrap_or(0);
    match &rest[digits..] {
        "" => (3, major, 0),
        beta if beta.starts_with("beta") => (2, major, minor(&beta[4..])),
        alpha if alpha.starts_with("alpha") => (1, major, minor(&alpha[5..])),
        _ => (0, 0, 0),
    }
}
