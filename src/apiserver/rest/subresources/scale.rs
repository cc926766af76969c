//! `/scale`: the replicas of a workload, in the one form that autoscalers and `kubectl scale` know.

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, GroupKind, GroupVersionKind, LabelSelector,
    Object,
};
use registry::ScalePaths;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, WriteOptions};
use crate::modify::{Part, modify};
use crate::request_info::Verb;
use crate::verbs::create::Outcome;
use crate::verbs::patch::patched_as;
use crate::{decode, metadata};

fn scale_kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    if call.path.verb() == Verb::Get {
        let object = call
            .state
            .store
            .get(&call.served.collection, &call.key())
            .await?;
        return Ok(Answer::value(
            200,
            scale_of(call, &call.served.tree(&object)?)?.into_value(),
        ));
    }
    let options = call.write_options()?;
    let told = match call.path.verb() {
        Verb::Update => Some(decode::object_of(
            call,
            &scale_kind(),
            options.field_validation,
        )?),
        _ => None,
    };
    let outcome = modify(call, &call.key(), Part::Main, &options, |old| {
        let mut scale = match &told {
            Some(told) => told.clone(),
            None => patched_scale(call, old, &options)?,
        };
        metadata::match_name(&mut scale, old.name())?;
        rescaled(call, old, &scale)
    })
    .await?;
    let changed = match &outcome {
        Outcome::Stored(object) => call.served.tree(object)?,
        Outcome::Imagined(object) => object.clone(),
    };
    Ok(Answer::value(200, scale_of(call, &changed)?.into_value()))
}

fn patched_scale(
    call: &Call<'_>,
    old: &Object,
    options: &WriteOptions,
) -> Result<Object, ApiError> {
    let kind = scale_kind();
    let node = schema::built_in(&kind.group, &kind.version, &kind.kind)
        .ok_or_else(|| ApiError::internal("nothing is known about Scale"))?;
    let tree = scale_of(call, old)?.into_value();
    patched_as(call, tree, &kind, schema::Node::Type(node), options)
}

/// The workload with the replicas that the scale asks for.
fn rescaled(call: &Call<'_>, old: &Object, scale: &Object) -> Result<Object, ApiError> {
    let replicas = scale
        .at(&["spec", "replicas"])
        .and_then(Value::as_i64)
        .unwrap_or(0);
    if replicas < 0 {
        let mut errors = FieldErrors::none();
        let path = FieldPath::new("spec").child("replicas");
        errors.push(FieldError::invalid(
            &path,
            replicas,
            "must be greater than or equal to 0",
        ));
        return Err(ApiError::invalid(
            &GroupKind::new("autoscaling", "Scale"),
            old.name(),
            &errors,
        ));
    }
    if !scale.uid().is_empty() && scale.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            scale.uid(),
            old.uid()
        );
        let resource = call.served.description.group_resource();
        let about = apimachinery::GroupResource {
            resource: format!("{}/scale", resource.resource).into(),
            ..resource
        };
        return Err(ApiError::conflict(&about, old.name(), &why));
    }
    let mut object = old.clone();
    object.set_at(&texts(&paths(call).spec_replicas), replicas.into());
    object.set_metadata_text("resourceVersion", scale.resource_version());
    Ok(object)
}

fn texts(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn paths(call: &Call<'_>) -> ScalePaths {
    let path = |text: &str| text.split('.').map(ToOwned::to_owned).collect::<Vec<_>>();
    call.served
        .resource
        .scale_paths()
        .unwrap_or_else(|| ScalePaths {
            spec_replicas: path("spec.replicas"),
            status_replicas: path("status.replicas"),
            label_selector: None,
        })
}

fn scale_of(call: &Call<'_>, object: &Object) -> Result<Object, ApiError> {
    let paths = paths(call);
    let number = |path: &[String]| object.at(&texts(path)).and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": {"replicas": number(&paths.spec_replicas)},
        "status": {"replicas": number(&paths.status_replicas)},
    });
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        let text = object.metadata_text(field);
        if !text.is_empty() {
            scale["metadata"][field] = text.into();
        }
    }
    let selector = match &paths.label_selector {
        Some(path) => object.text_at(&texts(path)),
        None => selector_text(object)?,
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    if let Some(type_ref) = schema::built_in("autoscaling", "v1", "Scale") {
        schema::canonicalise(&mut scale, schema::Node::Type(type_ref));
    }
    Object::from_value(scale).ok_or_else(|| ApiError::internal("a scale is an object"))
}

/// Replication controllers select by a plain map, everybody else by a selector.
fn selector_text(object: &Object) -> Result<String, ApiError> {
    let selector = object.at(&["spec", "selector"]);
    let parsed = if object.kind() == "ReplicationController" {
        let map = selector.and_then(Value::as_object);
        let labels = map
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        LabelSelector::from_labels(labels)
    } else {
        LabelSelector::from_object(selector)
            .map_err(|error| ApiError::bad_request(error.to_string()))?
    };
    Ok(parsed.to_string())
}
