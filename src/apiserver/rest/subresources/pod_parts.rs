//! `/ephemeralcontainers` and `/resize`: the two parts of a running pod's spec that can change.

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, Object};
use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::modify::{Part, modify};
use crate::request_info::Verb;
use crate::verbs::patch::patched;
use crate::{decode, metadata, verbs};

/// What may be taken over from the pod that the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodPart {
    EphemeralContainers,
    Resources,
}

pub(crate) async fn answer(call: &Call<'_>, part: PodPart) -> Result<Answer, ApiError> {
    if call.path.verb() == Verb::Get {
        return verbs::get(call).await;
    }
    let options = call.write_options()?;
    let told = match call.path.verb() {
        Verb::Update => Some(decode::object(call, options.field_validation)?),
        _ => None,
    };
    let outcome = modify(call, &call.key(), Part::Special, &options, |old| {
        let mut new = match &told {
            Some(told) => told.clone(),
            None => patched(call, old, &options)?,
        };
        metadata::match_name(&mut new, old.name())?;
        call.served
            .resource
            .default(&mut new)
            .map_err(ApiError::internal)?;
        let errors = errors(part, &new, old);
        if !errors.is_empty() {
            return Err(ApiError::invalid(&call.group_kind(), old.name(), &errors));
        }
        Ok(merged(part, &new, old))
    })
    .await?;
    Ok(outcome.answer(call, 200))
}

fn containers<'a>(pod: &'a Object, list: &str) -> &'a [Value] {
    pod.at(&["spec", list])
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The old pod with the one part that may change.
fn merged(part: PodPart, new: &Object, old: &Object) -> Object {
    let mut pod = old.clone();
    match part {
        PodPart::EphemeralContainers => {
            let added = containers(new, "ephemeralContainers");
            pod.set_at(&["spec", "ephemeralContainers"], added.to_vec().into());
        }
        PodPart::Resources => {
            for list in ["containers", "initContainers"] {
                let mut changed = containers(old, list).to_vec();
                for container in &mut changed {
                    let wanted = containers(new, list)
                        .iter()
                        .find(|wanted| wanted["name"] == container["name"]);
                    for field in ["resources", "resizePolicy"] {
                        if let Some(value) = wanted.and_then(|wanted| wanted.get(field)) {
                            container[field] = value.clone();
                        }
                    }
                }
                if !changed.is_empty() {
                    pod.set_at(&["spec", list], changed.into());
                }
            }
        }
    }
    pod.set_metadata_text("resourceVersion", new.resource_version());
    if pod.0.get("spec") != old.0.get("spec") && old.generation() > 0 {
        pod.set_generation(old.generation() + 1);
    }
    pod
}

fn errors(part: PodPart, new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::none();
    match part {
        PodPart::EphemeralContainers => {
            let path = FieldPath::new("spec").child("ephemeralContainers");
            ephemeral_errors(new, &path, &mut errors);
            for kept in containers(old, "ephemeralContainers") {
                let name = kept["name"].as_str().unwrap_or_default();
                match containers(new, "ephemeralContainers")
                    .iter()
                    .find(|wanted| wanted["name"] == kept["name"])
                {
                    None => errors.push(FieldError::forbidden(
                        &path,
                        format!("existing ephemeral containers {name:?} may not be removed\n"),
                    )),
                    Some(wanted) if wanted != kept => errors.push(FieldError::forbidden(
                        &path,
                        format!("existing ephemeral containers {name:?} may not be changed\n"),
                    )),
                    Some(_) => {}
                }
            }
        }
        PodPart::Resources => {
            if outside_of_resources(new) != outside_of_resources(old) {
                let path = FieldPath::new("spec");
                errors.push(FieldError::forbidden(
                    &path,
                    "only cpu and memory resources are mutable",
                ));
            }
        }
    }
    errors
}

/// What belongs to a pod's plan and not to a guest in it.
const NOT_FOR_GUESTS: &[&str] = &[
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
    "resizePolicy",
    "restartPolicy",
];

fn ephemeral_errors(pod: &Object, path: &FieldPath, errors: &mut FieldErrors) {
    let main = containers(pod, "containers")
        .iter()
        .chain(containers(pod, "initContainers"));
    let mut names: Vec<&Value> = main.map(|container| &container["name"]).collect();
    let targets = names.clone();
    for (at, container) in containers(pod, "ephemeralContainers").iter().enumerate() {
        let path = path.index(at);
        let name = &container["name"];
        if names.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name.clone()));
        }
        names.push(name);
        let target = &container["targetContainerName"];
        if target.as_str().is_some_and(|target| !target.is_empty()) && !targets.contains(&target) {
            errors.push(FieldError::not_found(
                &path.child("targetContainerName"),
                target.clone(),
            ));
        }
        for field in NOT_FOR_GUESTS {
            let is_empty = match container.get(*field) {
                None | Some(Value::Null) => true,
                Some(Value::Object(map)) => map.is_empty(),
                Some(Value::Array(items)) => items.is_empty(),
                Some(_) => false,
            };
            if !is_empty {
                errors.push(FieldError::forbidden(
                    &path.child(field),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
    }
}

/// The spec without what a resize may change.
fn outside_of_resources(pod: &Object) -> Value {
    let mut spec = pod.0.get("spec").cloned().unwrap_or_default();
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(container) = container.as_object_mut() {
                container.remove("resources");
                container.remove("resizePolicy");
            }
        }
    }
    spec
}
