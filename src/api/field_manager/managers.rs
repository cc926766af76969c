//! The owners of an object's fields, as `metadata.managedFields` lists them.

use apimachinery::Object;
use serde_json::{Map, Value, json};

use crate::field_set::FieldSet;

/// More managers that update are folded into one, so that the list cannot grow without end.
const UPDATE_MANAGERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields, in which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) identity: Identity,
    /// Whole seconds, RFC 3339; empty if unknown.
    pub(crate) time: String,
    pub(crate) fields: FieldSet,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Managers(Vec<Manager>);

impl Managers {
    /// The managers in an object's metadata; `None` if there are none or they cannot be read.
    pub(crate) fn of(object: &Object) -> Option<Self> {
        let entries = object.metadata()?.get("managedFields")?.as_array()?;
        let managers: Option<Vec<Manager>> = entries.iter().map(read_entry).collect();
        managers.filter(|managers| !managers.is_empty()).map(Self)
    }

    pub(crate) fn get(&self, identity: &Identity) -> Option<&Manager> {
        self.0.iter().find(|manager| manager.identity == *identity)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Manager> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Manager> {
        self.0.iter_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces or adds a manager.
    pub(crate) fn set(&mut self, manager: Manager) {
        match self
            .0
            .iter_mut()
            .find(|present| present.identity == manager.identity)
        {
            Some(present) => *present = manager,
            None => self.0.push(manager),
        }
    }

    /// What all managers own together.
    pub(crate) fn all_fields(&self) -> FieldSet {
        self.0.iter().fold(FieldSet::default(), |all, manager| {
            all.union(&manager.fields)
        })
    }

    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|manager| !manager.fields.is_empty());
    }

    /// Folds the oldest managers that update into one, if there are too many.
    pub(crate) fn cap(&mut self) {
        let mut updates: Vec<Manager> = self
            .0
            .iter()
            .filter(|manager| manager.identity.operation == Operation::Update)
            .cloned()
            .collect();
        if updates.len() <= UPDATE_MANAGERS_MAX {
            return;
        }
        updates.sort_by(|left, right| left.time.cmp(&right.time));
        let surplus = updates.len() - UPDATE_MANAGERS_MAX + 1;
        for old in updates.into_iter().take(surplus) {
            self.0.retain(|manager| manager.identity != old.identity);
            let identity = Identity {
                manager: ANCIENT.to_owned(),
                subresource: String::new(),
                ..old.identity
            };
            let before = self
                .get(&identity)
                .map(|manager| manager.fields.clone())
                .unwrap_or_default();
            self.set(Manager {
                identity,
                time: old.time,
                fields: before.union(&old.fields),
            });
        }
    }

    /// Writes the managers into an object's metadata, in upstream's order; none removes the field.
    pub(crate) fn write(mut self, object: &mut Object) {
        if self.0.is_empty() {
            object.metadata_mut().remove("managedFields");
            return;
        }
        self.0.sort_by(|left, right| {
            let order = |manager: &Manager| {
                (
                    manager.identity.operation,
                    manager.time.clone(),
                    manager.identity.manager.clone(),
                    manager.identity.api_version.clone(),
                    manager.identity.subresource.clone(),
                )
            };
            order(left).cmp(&order(right))
        });
        let entries: Vec<Value> = self.0.iter().map(write_entry).collect();
        object
            .metadata_mut()
            .insert("managedFields".into(), entries.into());
    }
}

fn read_entry(entry: &Value) -> Option<Manager> {
    let text = |field: &str| {
        entry
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if text("fieldsType") != "FieldsV1" {
        return None;
    }
    let empty = Value::Object(Map::new());
    let fields = FieldSet::from_json(
        entry
            .get("fieldsV1")
            .filter(|fields| !fields.is_null())
            .unwrap_or(&empty),
    )?;
    let identity = Identity {
        manager: text("manager"),
        operation,
        api_version: text("apiVersion"),
        subresource: text("subresource"),
    };
    Some(Manager {
        identity,
        time: text("time"),
        fields,
    })
}

fn write_entry(manager: &Manager) -> Value {
    let identity = &manager.identity;
    let mut entry = json!({
        "manager": identity.manager, "operation": identity.operation.as_str(), "apiVersion": identity.api_version,
        "fieldsType": "FieldsV1", "fieldsV1": manager.fields.to_json(),
    });
    if !manager.time.is_empty() {
        entry["time"] = manager.time.clone().into();
    }
    if !identity.subresource.is_empty() {
        entry["subresource"] = identity.subresource.clone().into();
    }
    entry
}
