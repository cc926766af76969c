//! Objects of tests, with only what matters to them.

use serde_json::{Value, json};

use crate::support::images::{BUSYBOX, WEB};

/// A pod of one container that runs a shell script; it is not restarted and is in no hurry to stay.
pub(crate) fn script(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": BUSYBOX, "command": ["sh", "-c", script]}],
        },
    })
}

/// A pod that runs until it is told to end.
pub(crate) fn idle(name: &str) -> Value {
    script(
        name,
        "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    )
}

/// A pod with the sample web server.
pub(crate) fn web(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": WEB, "ports": [{"containerPort": 8080}]}],
        },
    })
}

/// A Deployment of the sample web server.
pub(crate) fn deployment(name: &str, replicas: u32) -> Value {
    let mut template = web(name);
    template["metadata"]
        .as_object_mut()
        .expect("a map")
        .remove("name");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    })
}

/// A Service in front of port 8080 of the pods with a label `app`.
pub(crate) fn service(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

pub(crate) fn config_map(name: &str, key: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: value}})
}

/// Changes an object by a JSON merge patch.
#[must_use]
pub(crate) fn with(mut object: Value, patch: &Value) -> Value {
    merge(&mut object, patch);
    object
}

/// Changes the only container of a pod, or a pod's template, by a JSON merge patch.
#[must_use]
pub(crate) fn with_container(mut pod: Value, patch: &Value) -> Value {
    merge(&mut pod["spec"]["containers"][0], patch);
    pod
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        merge(&mut target[name.as_str()], value);
    }
}
