//! Bodies of requests and patches: read, decoded by the schema of what they say they are, and written again.

use codec::protobuf::{encode_message, seal};
use codec::{Body, Encoding};
use schema::{Node, TypeRef};
use serde_json::{Map, Value, json};

use super::targets::{Fate, Judge, Samples};

fn objects() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "labels": {"app": "web"}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "image": "i:1", "command": ["sh", "-c", "true"],
                "env": [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5}}],
                "tolerations": [{"key": "k", "operator": "Exists"}], "terminationGracePeriodSeconds": 30,
                "volumes": [{"name": "v", "configMap": {"name": "m", "defaultMode": 420}}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "http", "nodePort": 30000}], "clusterIPs": ["10.0.0.1"]}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "AAEC"}, "type": "Opaque"}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
            "spec": {"holderIdentity": "n", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40}}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x.y.z"},
            "spec": {"group": "y.z", "scope": "Cluster", "names": {"kind": "X", "plural": "x"}, "versions": [{"name": "v1",
                "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}}),
    ]
}

/// The type that a body says it is of; a pod where it says nothing we know.
fn type_of(api_version: &str, kind: &str) -> TypeRef {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let named = schema::built_in(group, version, kind);
    named
        .or_else(|| schema::built_in("", "v1", "Pod"))
        .expect("pods are built in")
}

fn read(encoding: Encoding, bytes: &[u8]) -> Fate {
    let Ok(body) = Body::read(encoding, bytes) else {
        return Fate::Refused;
    };
    let type_ref = type_of(body.api_version(), body.kind());
    let Ok(decoded) = body.decode(Node::Type(type_ref)) else {
        return Fate::Refused;
    };
    // What was understood can be written in every form.
    let json = decoded.tree.to_string();
    let message = encode_message(json.as_bytes(), type_ref);
    if let Ok(message) = &message {
        let again = codec::protobuf::decode_message(message, type_ref);
        assert!(again.is_ok(), "what we wrote we do not read: {again:?}");
    }
    codec::json_to_yaml(json.as_bytes()).expect("JSON becomes YAML");
    Fate::Understood
}

fn of_encoding(encoding: Encoding, samples: Samples) -> (Samples, Judge) {
    (samples, Box::new(move |bytes| read(encoding, bytes)))
}

pub(super) fn json() -> anyhow::Result<(Samples, Judge)> {
    let written = objects();
    let samples = written.iter().map(|object| object.to_string().into());
    Ok(of_encoding(Encoding::Json, samples.collect()))
}

pub(super) fn yaml() -> anyhow::Result<(Samples, Judge)> {
    let written = objects();
    let written = written
        .iter()
        .map(|object| codec::json_to_yaml(object.to_string().as_bytes()));
    let mut samples = written.collect::<Result<Samples, _>>()?;
    samples.push(
        b"apiVersion: v1\nkind: Pod\nmetadata: &m {name: a, labels: {b: !!str 1}}\nspec:\n  containers:\n  - name: >-\n      c\n    args: [\"\\u0041\", '', \"0x1F\"]\n".to_vec(),
    );
    Ok(of_encoding(Encoding::Yaml, samples))
}

pub(super) fn protobuf() -> anyhow::Result<(Samples, Judge)> {
    let sealed = objects().into_iter().map(|object| {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let message = encode_message(object.to_string().as_bytes(), type_of(&version, &kind))?;
        Ok(seal(&version, &kind, &message))
    });
    let samples = sealed.collect::<anyhow::Result<Samples>>()?;
    Ok(of_encoding(Encoding::Protobuf, samples))
}

pub(super) fn json_patch() -> anyhow::Result<(Samples, Judge)> {
    let pod = objects().swap_remove(0);
    let samples = [
        json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "j"}]),
        json!([{"op": "add", "path": "/metadata/labels/x~1y", "value": {"a": [1, null]}}, {"op": "remove", "path": "/spec/volumes"}]),
        json!([{"op": "test", "path": "/kind", "value": "Pod"}, {"op": "copy", "from": "/spec", "path": "/copy"}]),
        json!([{"op": "move", "from": "/spec/volumes/0", "path": "/spec/volumes/-"}]),
    ];
    let samples = samples.iter().map(|patch| patch.to_string().into());
    let judge: Judge = Box::new(move |bytes| Fate::of(&apimachinery::json_patch(&pod, bytes)));
    Ok((samples.collect(), judge))
}

pub(super) fn merge_patch() -> anyhow::Result<(Samples, Judge)> {
    let pod = objects().swap_remove(0);
    let samples = [
        json!({"metadata": {"labels": {"app": null, "b": "c"}}}),
        json!({"spec": {"containers": []}, "status": {"phase": "Running"}}),
        json!(null),
    ];
    let samples = samples.iter().map(|patch| patch.to_string().into());
    let judge: Judge = Box::new(move |bytes| {
        let patch = schema::Document::parse(bytes)
            .ok()
            .and_then(schema::Document::into_value);
        let Some(patch) = patch else {
            return Fate::Refused;
        };
        let mut object = pod.clone();
        apimachinery::merge_patch(&mut object, &patch);
        Fate::Understood
    });
    Ok((samples.collect(), judge))
}

pub(super) fn strategic_patch() -> anyhow::Result<(Samples, Judge)> {
    let pod: Map<String, Value> = match objects().swap_remove(0) {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let samples = [
        json!({"spec": {"containers": [{"name": "c", "image": "j"}, {"name": "d", "$patch": "delete"}]}}),
        json!({"spec": {"$setElementOrder/containers": [{"name": "c"}], "containers": [{"name": "c", "env": [{"$patch": "replace"}, {"name": "B"}]}]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["y"]}}),
        json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}]}}),
    ];
    let samples = samples.iter().map(|patch| patch.to_string().into());
    let node = Node::Type(type_of("v1", "Pod"));
    let judge: Judge = Box::new(move |bytes| {
        let patch = schema::Document::parse(bytes)
            .ok()
            .and_then(schema::Document::into_value);
        let Some(Value::Object(patch)) = patch else {
            return Fate::Refused;
        };
        Fate::of(&schema::strategic_merge(&mut pod.clone(), &patch, node))
    });
    Ok((samples.collect(), judge))
}
