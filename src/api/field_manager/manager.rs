//! The two operations: tracking a plain write, and applying a configuration.

use apimachinery::{ApiError, Object};
use schema::{Node, zero_value};
use serde_json::{Map, Value};

use crate::conflict::Conflicts;
use crate::field_set::FieldSet;
use crate::managers::{Identity, Manager, Managers, Operation};
use crate::typed::{Comparison, merge, remove, to_field_set, unowned};

/// Owns the fields of an object that was written before anybody tracked it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Never owned: the system writes them.
const SYSTEM_METADATA: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Who writes, as what, when.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// `fieldManager` of the request, or the first part of its user agent.
    pub manager: &'a str,
    /// The version that the request is written in.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Whole seconds, RFC 3339.
    pub now: &'a str,
    pub writable: Writable<'a>,
}

/// What of an object a request writes. A path is one of field names.
#[derive(Clone, Copy, Debug)]
pub enum Writable<'a> {
    /// Everything but these fields: not `status` for the object itself, not `spec` for its status.
    AllBut(&'a [&'a [&'a str]]),
    /// These fields and what is below them; `*` is any item of a list.
    Only(&'a [&'a [&'a str]]),
}

/// Whether an applied configuration takes fields from other managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    Yes,
    No,
}

/// What an applied configuration comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    Changed(Object),
    /// Neither the object nor an owner changed.
    Unchanged,
}

impl Actor<'_> {
    fn identity(&self, operation: Operation) -> Identity {
        Identity {
            manager: self.manager.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    /// What of `fields` this actor can own.
    fn ownable(&self, fields: &FieldSet) -> FieldSet {
        let (fields, reset) = match self.writable {
            Writable::AllBut(paths) => (fields.clone(), paths),
            Writable::Only(paths) => (fields.along(paths), [].as_slice()),
        };
        let system = SYSTEM_METADATA
            .iter()
            .map(|name| FieldSet::of_fields(&["metadata", name]));
        let identity = ["apiVersion", "kind"]
            .into_iter()
            .map(|name| FieldSet::of_fields(&[name]));
        let reset = reset.iter().map(|path| FieldSet::of_fields(path));
        let mut metadata = FieldSet::of_fields(&["metadata"]);
        metadata = system
            .chain(identity)
            .chain(reset)
            .fold(metadata, |all, one| all.union(&one));
        // `metadata` itself is no leaf: only the member is dropped, not what is below.
        let members_only = fields.difference(&FieldSet::of_fields(&["metadata"]));
        members_only.difference_below(&metadata.difference(&FieldSet::of_fields(&["metadata"])))
    }
}

/// Writes into `new` who owns its fields after a create, update or patch. `live` is `None` for a create.
pub fn track(live: Option<&Object>, new: &mut Object, node: Node<'_>, actor: &Actor<'_>) {
    let mut managers = managers_for_update(live, new);
    let nothing = nothing_written(node);
    let before = live.map_or(&nothing, |live| &live.0);
    let changes = Comparison::between(before, &new.0, node);
    let written = changes.written();
    let gone = changes.removed.union(&written);
    let identity = actor.identity(Operation::Update);
    let own = managers
        .get(&identity)
        .map(|manager| manager.fields.clone())
        .unwrap_or_default();
    for manager in managers.iter_mut() {
        manager.fields = manager.fields.difference(&gone);
    }
    let taken = actor.ownable(&written);
    if !taken.is_empty() {
        let fields = own.difference(&changes.removed).union(&taken);
        managers.set(Manager {
            identity,
            time: actor.now.to_owned(),
            fields,
        });
    }
    managers.drop_empty();
    managers.cap();
    managers.write(new);
}

/// What an object holds before anything is written: the fields that Go's structs cannot leave out.
fn nothing_written(node: Node<'_>) -> Map<String, Value> {
    let mut nothing = match node.type_ref().map(zero_value) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    nothing
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    nothing
}

/// A client may send managers of its own, or a list with nothing in it to forget all of them.
fn managers_for_update(live: Option<&Object>, new: &Object) -> Managers {
    let sent = new
        .metadata()
        .and_then(|metadata| metadata.get("managedFields"));
    let forgets = sent.and_then(Value::as_array).is_some_and(|entries| {
        entries.len() == 1 && entries[0].as_object().is_some_and(Map::is_empty)
    });
    if forgets {
        return Managers::default();
    }
    Managers::of(new)
        .or_else(|| live.and_then(Managers::of))
        .unwrap_or_default()
}

/// Applies a configuration to the live object; for a create, `live` is an object with no more than its identity.
///
/// # Errors
/// 409 with a cause per field, if others own fields that would change and `force` is no.
pub fn apply(
    live: &Object,
    configuration: &Object,
    node: Node<'_>,
    actor: &Actor<'_>,
    force: Force,
) -> Result<Applied, ApiError> {
    if configuration
        .metadata()
        .and_then(|metadata| metadata.get("managedFields"))
        .is_some()
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let managers_before = managers_for_apply(live, node, actor);
    let identity = actor.identity(Operation::Apply);
    let last = managers_before
        .get(&identity)
        .map(|manager| manager.fields.clone());
    let fields = actor.ownable(&to_field_set(&configuration.0, node));
    let mut managers = managers_before.clone();
    managers.set(Manager {
        identity: identity.clone(),
        time: actor.now.to_owned(),
        fields,
    });

    let mut merged = merge(&live.0, &configuration.0, node);
    if let Some(last) = &last {
        let unwanted = unowned(last, &managers.all_fields(), &merged, node);
        remove(&mut merged, &unwanted, node);
    }
    let changes = Comparison::between(&live.0, &merged, node);
    let written = actor.ownable(&changes.written());
    take_from_others(&mut managers, &identity, &written, &changes.removed, force)?;
    managers.drop_empty();
    if without_managers(&live.0) == without_managers(&merged) {
        if same_owners(&managers, &managers_before) {
            return Ok(Applied::Unchanged);
        }
        keep_time(&mut managers, &managers_before, identity);
    }
    let mut merged = Object(merged);
    managers.write(&mut merged);
    Ok(Applied::Changed(merged))
}

/// Others lose what the applier writes and what is gone; without force, losing what is written is a conflict.
fn take_from_others(
    managers: &mut Managers,
    applier: &Identity,
    written: &FieldSet,
    removed: &FieldSet,
    force: Force,
) -> Result<(), ApiError> {
    let mut conflicts = Conflicts::default();
    for manager in managers
        .iter_mut()
        .filter(|manager| manager.identity != *applier)
    {
        let lost = manager.fields.intersection(written);
        if !lost.is_empty() && force == Force::No {
            conflicts.add(manager, &lost);
        }
        manager.fields = manager.fields.difference(&lost).difference(removed);
    }
    if conflicts.is_empty() {
        Ok(())
    } else {
        Err(conflicts.into_error())
    }
}

/// Owning what is there already is no change of the object, so it has no time of its own.
fn keep_time(managers: &mut Managers, before: &Managers, identity: Identity) {
    let time = before
        .get(&identity)
        .map(|manager| manager.time.clone())
        .unwrap_or_default();
    if let Some(fields) = managers
        .get(&identity)
        .map(|manager| manager.fields.clone())
    {
        managers.set(Manager {
            identity,
            time,
            fields,
        });
    }
}

/// The managers of the live object; what nobody tracked belongs to a manager of its own, so that it can be taken over.
fn managers_for_apply(live: &Object, node: Node<'_>, actor: &Actor<'_>) -> Managers {
    let mut managers = Managers::of(live).unwrap_or_default();
    if managers.is_empty() {
        let fields = actor.ownable(&to_field_set(&live.0, node));
        if !fields.is_empty() {
            let identity = Identity {
                manager: BEFORE_FIRST_APPLY.to_owned(),
                operation: Operation::Update,
                api_version: actor.api_version.to_owned(),
                subresource: String::new(),
            };
            managers.set(Manager {
                identity,
                time: actor.now.to_owned(),
                fields,
            });
        }
    }
    managers
}

fn without_managers(object: &Map<String, Value>) -> Map<String, Value> {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn same_owners(left: &Managers, right: &Managers) -> bool {
    left.iter().count() == right.iter().count()
        && left.iter().all(|manager| {
            right
                .get(&manager.identity)
                .is_some_and(|other| other.fields == manager.fields)
        })
}
