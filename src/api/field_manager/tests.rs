//! Ownership by examples.

use apimachinery::Object;
use schema::{Node, built_in};
use serde_json::{Value, json};

use crate::{Actor, Applied, Force, Writable, apply, track};

fn node() -> Node<'static> {
    Node::from(built_in("apps", "v1", "Deployment").expect("a deployment"))
}

fn actor(manager: &str) -> Actor<'_> {
    Actor {
        manager,
        api_version: "apps/v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        writable: Writable::AllBut(&[&["status"]]),
    }
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn applied(live: &Object, configuration: Value, manager: &str, force: Force) -> Object {
    match apply(live, &object(configuration), node(), &actor(manager), force).expect("no conflict")
    {
        Applied::Changed(object) => object,
        Applied::Unchanged => live.clone(),
    }
}

fn base() -> Object {
    object(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}))
}

fn configuration(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn fields_of(object: &Object, manager: &str) -> Value {
    let entries = object
        .at(&["metadata", "managedFields"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let entry = entries
        .into_iter()
        .find(|entry| entry["manager"] == manager);
    entry
        .map(|entry| entry["fieldsV1"].clone())
        .unwrap_or_default()
}

#[test]
fn an_update_owns_what_it_wrote_by_key_and_by_value() {
    let mut new = object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": {"a": "b"}, "uid": "u"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}},
        "status": {"replicas": 1},
    }));
    track(None, &mut new, node(), &actor("kubectl-create"));
    assert_eq!(
        fields_of(&new, "kubectl-create"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:ports": {
                    ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}},
        })
    );
}

#[test]
fn what_an_applier_no_longer_says_goes_unless_another_owns_it() {
    let first = applied(
        &base(),
        configuration(json!({"replicas": 3, "paused": true, "minReadySeconds": 5})),
        "one",
        Force::No,
    );
    let shared = applied(
        &first,
        configuration(json!({"paused": true})),
        "two",
        Force::No,
    );
    let second = applied(
        &shared,
        configuration(json!({"replicas": 3})),
        "one",
        Force::No,
    );
    assert_eq!(
        second.at(&["spec"]),
        Some(&json!({"replicas": 3, "paused": true}))
    );
    assert_eq!(
        fields_of(&second, "one"),
        json!({"f:spec": {"f:replicas": {}}})
    );
}

#[test]
fn changing_what_another_owns_is_a_conflict_that_force_wins() {
    let first = applied(
        &base(),
        configuration(json!({"replicas": 3})),
        "one",
        Force::No,
    );
    let error = apply(
        &first,
        &object(configuration(json!({"replicas": 4}))),
        node(),
        &actor("two"),
        Force::No,
    )
    .expect_err("a conflict");
    assert_eq!(error.code, 409);
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    let forced = applied(
        &first,
        configuration(json!({"replicas": 4})),
        "two",
        Force::Yes,
    );
    assert_eq!(forced.at(&["spec", "replicas"]), Some(&json!(4)));
    assert_eq!(fields_of(&forced, "one"), Value::Null);
}

#[test]
fn the_same_value_is_shared_and_no_conflict() {
    let first = applied(
        &base(),
        configuration(json!({"replicas": 3})),
        "one",
        Force::No,
    );
    let second = applied(
        &first,
        configuration(json!({"replicas": 3})),
        "two",
        Force::No,
    );
    assert_eq!(fields_of(&second, "one"), fields_of(&second, "two"));
}

#[test]
fn a_list_item_that_nobody_names_any_more_goes_with_its_defaults() {
    let containers = |names: &[&str]| {
        let containers: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "image": "i"}))
            .collect();
        configuration(json!({"template": {"spec": {"containers": containers}}}))
    };
    let mut live = applied(&base(), containers(&["a", "b"]), "one", Force::No);
    live.0["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let next = applied(&live, containers(&["b"]), "one", Force::No);
    assert_eq!(
        next.at(&["spec", "template", "spec", "containers"]),
        Some(&json!([{"name": "b", "image": "i"}]))
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let first = applied(
        &base(),
        configuration(json!({"replicas": 3})),
        "one",
        Force::No,
    );
    let again = apply(
        &first,
        &object(configuration(json!({"replicas": 3}))),
        node(),
        &actor("one"),
        Force::No,
    );
    assert_eq!(again, Ok(Applied::Unchanged));
}

#[test]
fn an_update_takes_a_field_from_its_applier() {
    let live = applied(
        &base(),
        configuration(json!({"replicas": 3, "paused": true})),
        "one",
        Force::No,
    );
    let mut new = live.clone();
    new.0["spec"]["replicas"] = json!(5);
    track(Some(&live), &mut new, node(), &actor("kubectl-edit"));
    assert_eq!(fields_of(&new, "one"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(
        fields_of(&new, "kubectl-edit"),
        json!({"f:spec": {"f:replicas": {}}})
    );
}

#[test]
fn a_narrow_door_gives_ownership_of_what_it_leads_to_only() {
    let resources = Actor {
        writable: Writable::Only(&[&["spec", "template", "spec", "containers", "*", "image"]]),
        ..actor("a")
    };
    let live = base();
    let containers = json!([{"name": "c", "image": "i", "command": ["x"]}]);
    let spec = json!({"replicas": 2, "template": {"spec": {"containers": containers}}});
    let wanted = object(configuration(spec));
    let Applied::Changed(object) =
        apply(&live, &wanted, node(), &resources, Force::No).expect("no conflict")
    else {
        panic!("it changed")
    };
    let owned = &object.metadata().expect("metadata")["managedFields"][0]["fieldsV1"];
    let container = json!({".": {}, "f:image": {}});
    assert_eq!(
        owned["f:spec"],
        json!({"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": container}}}})
    );
}
