//! What several commands know of pods and of what makes them: selectors, the pod to talk to, the container in it.

use apimachinery::{GroupVersionResource, Object};
use serde_json::Value;

use crate::arguments::targets;
use crate::error::{Error, Result};
use crate::session::{PLAIN, Session};

/// Prefers a container of a pod to the others.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

pub(crate) fn pods() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "pods")
}

/// A label selector as a query has it; `None` where there is none.
pub(crate) fn selector_text(selector: &Value) -> Option<String> {
    let selector = selector.as_object()?;
    // A Service and a ReplicationController have a plain map.
    let is_plain =
        !selector.contains_key("matchLabels") && !selector.contains_key("matchExpressions");
    let labels = if is_plain {
        Some(selector)
    } else {
        selector.get("matchLabels").and_then(Value::as_object)
    };
    let mut parts: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    parts.extend(expressions.into_iter().flatten().map(requirement));
    (!parts.is_empty()).then(|| parts.join(","))
}

fn requirement(expression: &Value) -> String {
    let key = expression["key"].as_str().unwrap_or_default();
    let values: Vec<&str> = expression["values"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match expression["operator"].as_str().unwrap_or_default() {
        "Exists" => key.to_owned(),
        "DoesNotExist" => format!("!{key}"),
        "NotIn" => format!("{key} notin ({})", values.join(",")),
        _ => format!("{key} in ({})", values.join(",")),
    }
}

/// The pods a label selector chooses, the ones most worth looking at first.
pub(crate) async fn pods_of(
    selector: &str,
    namespace: &str,
    session: &Session,
) -> Result<Vec<Object>> {
    let list = session
        .client
        .dynamic(pods(), namespace)
        .list(selector, "")
        .await?;
    let mut found = Vec::new();
    for item in &list.items {
        found.push(
            item.to_object()
                .map_err(|error| Error::usage(error.to_string()))?,
        );
    }
    // Running before pending before ended, ready before not ready, then the older.
    found.sort_by_key(|pod| {
        let phase = match pod.text_at(&["status", "phase"]).as_str() {
            "Running" => 0,
            "Pending" => 1,
            _ => 2,
        };
        (
            phase,
            !is_ready(pod),
            pod.metadata_text("creationTimestamp").to_owned(),
        )
    });
    Ok(found)
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The pods behind an argument: `POD`, `pod/POD`, or a workload or Service by TYPE/NAME.
pub(crate) async fn pods_behind(argument: &str, session: &mut Session) -> Result<Vec<Object>> {
    let catalogue = session.catalogue().await?;
    let argument = if argument.contains('/') {
        argument.to_owned()
    } else {
        format!("pods/{argument}")
    };
    let target = targets(&[argument], &catalogue)?.remove(0);
    let name = target.name.unwrap_or_default();
    let namespace = target.kind.namespace(&session.namespace).to_owned();
    let path = kube_client::object_path(&target.kind.resource, Some(&namespace), &name, "");
    let object = session.get(path, PLAIN).await?;
    if target.kind.resource == pods() {
        return Ok(Object::from_value(object).into_iter().collect());
    }
    let selector = selector_text(&object["spec"]["selector"]).ok_or_else(|| {
        Error::usage(format!(
            "cannot get the pods of {}: it selects none",
            target.kind.label(&name)
        ))
    })?;
    let found = pods_of(&selector, &namespace, session).await?;
    if found.is_empty() {
        return Err(Error::usage(format!(
            "no pods found for {}",
            target.kind.label(&name)
        )));
    }
    Ok(found)
}

/// The one pod to talk to of those behind an argument.
pub(crate) async fn pod_behind(argument: &str, session: &mut Session) -> Result<Object> {
    let mut found = pods_behind(argument, session).await?;
    if found.len() > 1 {
        session.warn(format!(
            "Found {} pods, using pod/{}",
            found.len(),
            found[0].name()
        ));
    }
    Ok(found.remove(0))
}

/// The names of a pod's containers: init containers first if asked for.
pub(crate) fn containers(pod: &Object, lists: &[&str]) -> Vec<String> {
    let of = |list: &&str| {
        pod.at(&["spec", list])
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    lists
        .iter()
        .flat_map(of)
        .filter_map(|container| container["name"].as_str().map(str::to_owned))
        .collect()
}

/// The container named, or the pod's default, which is told on standard error where there is a choice.
pub(crate) fn container(
    pod: &Object,
    named: Option<&str>,
    session: &mut Session,
) -> Result<String> {
    let all = containers(
        pod,
        &["initContainers", "containers", "ephemeralContainers"],
    );
    if let Some(named) = named {
        if !all.iter().any(|name| name == named) {
            return Err(Error::usage(format!(
                "container {named} is not valid for pod {}",
                pod.name()
            )));
        }
        return Ok(named.to_owned());
    }
    if let Some(default) = pod
        .annotation(DEFAULT_CONTAINER)
        .filter(|name| all.iter().any(|known| known == name))
    {
        return Ok(default.to_owned());
    }
    let main = containers(pod, &["containers"]);
    let first = main
        .first()
        .ok_or_else(|| Error::usage(format!("pod {} has no containers", pod.name())))?;
    if all.len() > 1 {
        let mut described = main.clone();
        let init = containers(pod, &["initContainers"]).into_iter();
        described.extend(init.map(|name| format!("{name} (init)")));
        let ephemeral = containers(pod, &["ephemeralContainers"]).into_iter();
        described.extend(ephemeral.map(|name| format!("{name} (ephem)")));
        session.warn(format!(
            "Defaulted container {first:?} out of: {}",
            described.join(", ")
        ));
    }
    Ok(first.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_become_queries() {
        let labels = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(
            selector_text(&labels).expect("a selector"),
            "a=1,b in (x,y),!c"
        );
        assert_eq!(
            selector_text(&json!({"app": "x"})).expect("a selector"),
            "app=x"
        );
        assert_eq!(selector_text(&json!({})), None);
    }
}
