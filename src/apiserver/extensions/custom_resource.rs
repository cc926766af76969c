//! One version of one custom kind, as the pipeline sees a kind.

use std::borrow::Cow;

use apimachinery::{GroupVersionKind, NameRule, Object};
use env::Timestamp;
use registry::{
    ColumnDefinition, DefaultCascade, DeleteAnswer, Description, Generation, HookError, Permission,
    Resource, Retention, ScalePaths, Scope, SelectablePath, StatusMetadata, StatusOnCreate,
    Subresource, Verbs, Verdict,
};
use schema::{Node, Structural};
use serde_json::Value;

use crate::definition::{Definition, DefinitionError, Version};
use crate::interner::intern;
use crate::printer_columns::{PrintedColumn, columns_of, definitions, row};

#[derive(Debug)]
pub struct CustomResource {
    description: Description,
    schema: Structural,
    /// As JSON, which takes less than half the memory of a tree; documents are rarely made.
    open_api_schema: Option<Box<str>>,
    columns: Vec<PrintedColumn>,
    scale: Option<ScalePaths>,
    warning: Option<String>,
}

fn split(path: &str) -> Vec<String> {
    path.trim_start_matches('.')
        .split('.')
        .map(str::to_owned)
        .collect()
}

impl CustomResource {
    pub fn new(definition: &Definition, version: &Version) -> Result<Self, DefinitionError> {
        let storage = definition
            .storage_version()
            .ok_or(DefinitionError::NoStorageVersion)?;
        let warning = version.deprecated.then(|| {
            version.deprecation_warning.clone().unwrap_or_else(|| {
                format!(
                    "{}/{} {} is deprecated",
                    definition.spec.group, version.name, definition.spec.names.kind
                )
            })
        });
        let scale = version.subresources.scale.as_ref().map(|scale| ScalePaths {
            spec_replicas: split(&scale.spec_replicas_path),
            status_replicas: split(&scale.status_replicas_path),
            label_selector: scale.label_selector_path.as_deref().map(split),
        });
        Ok(Self {
            description: describe(definition, version, definition.kind_in(&storage.name)),
            schema: version.structural()?,
            open_api_schema: version
                .schema
                .as_ref()
                .map(|schema| schema.open_api.to_string().into_boxed_str()),
            columns: columns_of(version),
            scale,
            warning,
        })
    }

    fn judge(&self, object: &Object, old: Option<&Object>) -> Verdict {
        let tree = Value::Object(object.0.clone());
        let old = old.map(|old| Value::Object(old.0.clone()));
        let mut errors = schema::validate_update(&tree, old.as_ref(), &self.schema);
        errors.extend(schema::validate_list_types(&tree, &self.schema));
        Verdict {
            errors,
            warnings: self.warning.clone().into_iter().collect(),
        }
    }
}

fn describe(
    definition: &Definition,
    version: &Version,
    stored_kind: GroupVersionKind,
) -> Description {
    let names = &definition.spec.names;
    let accepted = &definition.status.accepted_names;
    let mut subresources = Vec::new();
    if version.subresources.scale.is_some() {
        subresources.push(Subresource::Scale);
    }
    let has_status = version.subresources.status.is_some();
    if has_status {
        subresources.push(Subresource::Status);
    }
    let owned = |texts: &[String]| texts.iter().cloned().map(Cow::Owned).collect();
    Description {
        kind: definition.kind_in(&version.name),
        list_kind: names.list_kind.clone().into(),
        plural: names.plural.clone().into(),
        singular: names.singular.clone().into(),
        short_names: owned(&accepted.short_names),
        categories: owned(&accepted.categories),
        scope: if definition.spec.scope == "Cluster" {
            Scope::Cluster
        } else {
            Scope::Namespaced
        },
        verbs: Verbs::All,
        subresources,
        name_rule: NameRule::DnsSubdomain,
        generation: Generation::Content,
        status_on_create: if has_status {
            StatusOnCreate::Cleared
        } else {
            StatusOnCreate::Kept
        },
        status_metadata: StatusMetadata::Fixed,
        unconditional_update: Permission::Refused,
        create_on_update: Permission::Refused,
        delete_answer: DeleteAnswer::Status,
        default_cascade: DefaultCascade::Background,
        retention: Retention::Durable,
        heartbeats: &[],
        stored_kind,
        prefix: format!("/registry/{}/{}/", definition.spec.group, names.plural),
        selectable_fields: selectable(version),
    }
}

fn selectable(version: &Version) -> Vec<SelectablePath> {
    version
        .selectable_fields
        .iter()
        .filter_map(|field| {
            let name = field.json_path.trim_start_matches('.');
            let path = name
                .split('.')
                .map(|part| Cow::Owned(part.to_owned()))
                .collect();
            Some(SelectablePath {
                name: intern(name)?,
                paths: vec![path],
                fallback: Cow::Borrowed(""),
            })
        })
        .collect()
}

impl Resource for CustomResource {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn schema(&self) -> Node<'_> {
        Node::CustomResource(&self.schema)
    }

    fn default(&self, object: &mut Object) -> Result<(), HookError> {
        let mut tree = Value::Object(std::mem::take(&mut object.0));
        schema::prune_non_nullable_nulls(&mut tree, &self.schema);
        schema::apply_defaults(&mut tree, &self.schema);
        if let Value::Object(map) = tree {
            object.0 = map;
        }
        Ok(())
    }

    fn check_create(&self, object: &mut Object) -> Result<Verdict, HookError> {
        Ok(self.judge(object, None))
    }

    fn check_update(&self, object: &mut Object, old: &Object) -> Result<Verdict, HookError> {
        Ok(self.judge(object, Some(old)))
    }

    fn check_status_update(&self, object: &mut Object, old: &Object) -> Result<Verdict, HookError> {
        Ok(self.judge(object, Some(old)))
    }

    /// Older objects get what the schema says today.
    fn is_served_as_stored(&self) -> bool {
        false
    }

    fn to_stored(&self, object: &mut Object) {
        object.set_group_version_kind(&self.description.stored_kind);
    }

    fn from_stored(&self, object: &mut Object) {
        object.set_group_version_kind(&self.description.kind);
    }

    fn columns(&self) -> Vec<ColumnDefinition> {
        definitions(&self.columns)
    }

    fn row(&self, object: &[u8], now: Timestamp) -> Result<Vec<Value>, HookError> {
        let object = Object::from_slice(object).unwrap_or_default();
        Ok(row(&self.columns, &object, now))
    }

    fn open_api_schema(&self) -> Option<Value> {
        self.open_api_schema
            .as_ref()
            .and_then(|text| serde_json::from_str(text).ok())
    }

    fn scale_paths(&self) -> Option<ScalePaths> {
        self.scale.clone()
    }
}
