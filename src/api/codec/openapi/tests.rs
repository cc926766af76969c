use super::*;

const ALL: &[Verb] = &[
    Verb::Get,
    Verb::List,
    Verb::Watch,
    Verb::Create,
    Verb::Update,
    Verb::Patch,
    Verb::Delete,
    Verb::DeleteCollection,
];

fn deployments() -> ResourcePaths<'static> {
    ResourcePaths {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        list_kind: "DeploymentList",
        plural: "deployments",
        is_namespaced: true,
        verbs: ALL,
        schema: ResourceSchema::BuiltIn,
        subresources: &[SubresourcePaths {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: &[Verb::Get, Verb::Update, Verb::Patch],
        }],
    }
}

fn cron_tabs(schema: &Value) -> ResourcePaths<'_> {
    ResourcePaths {
        group: "stable.example.com",
        version: "v1",
        kind: "CronTab",
        list_kind: "CronTabList",
        plural: "crontabs",
        is_namespaced: true,
        verbs: ALL,
        schema: ResourceSchema::Custom(CustomSchema {
            open_api_v3_schema: Some(schema),
            ..CustomSchema::default()
        }),
        subresources: &[],
    }
}

/// Every `$ref` in a document names a model that is there.
fn assert_closed(value: &Value, prefix: &str, models: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let model = reference.strip_prefix(prefix).unwrap();
                assert!(models.get(model).is_some(), "{reference}");
            }
            map.values()
                .for_each(|value| assert_closed(value, prefix, models));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|value| assert_closed(value, prefix, models)),
        _ => {}
    }
}

#[test]
fn a_v3_document_holds_all_it_refers_to_with_upstreams_extensions() {
    let document = v3_document("apps", "v1", &[deployments()], None);
    let schemas = &document["components"]["schemas"];
    assert_closed(&document, "#/components/schemas/", schemas);
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    assert_eq!(
        deployment["properties"]["spec"],
        json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}],
               "default": {}})
    );
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
}

#[test]
fn operations_name_kind_and_action_and_offer_field_validation() {
    let document = v3_document("apps", "v1", &[deployments()], None);
    let path = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(
        path["patch"]["operationId"],
        "patchAppsV1NamespacedDeployment"
    );
    assert_eq!(path["patch"]["x-kubernetes-action"], "patch");
    let parameters = path["patch"]["parameters"].as_array().unwrap();
    assert!(
        parameters
            .iter()
            .any(|parameter| parameter["name"] == "fieldValidation")
    );
    let scale =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
    assert_eq!(scale["operationId"], "readAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    let collection = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
    assert_eq!(
        collection["delete"]["operationId"],
        "deleteAppsV1CollectionNamespacedDeployment"
    );
}

#[test]
fn a_proxied_connection_takes_its_options_from_the_query() {
    let pods = ResourcePaths {
        group: "",
        version: "v1",
        kind: "Pod",
        list_kind: "PodList",
        plural: "pods",
        subresources: &[SubresourcePaths {
            name: "exec",
            group: "",
            version: "v1",
            kind: "PodExecOptions",
            verbs: &[Verb::Connect],
        }],
        ..deployments()
    };
    let document = v3_document("", "v1", &[pods], None);
    let exec = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"];
    assert_eq!(
        exec["get"]["operationId"],
        "connectCoreV1GetNamespacedPodExec"
    );
    assert_eq!(
        names(exec),
        [
            "command",
            "container",
            "name",
            "namespace",
            "stderr",
            "stdin",
            "stdout",
            "tty"
        ]
    );
    assert_eq!(names(&exec["post"]), [""; 0]);
    let models = &document["components"]["schemas"];
    assert!(models.get("io.k8s.api.core.v1.PodExecOptions").is_none());
}

/// The names of the parameters of a path or an operation.
fn names(place: &Value) -> Vec<&str> {
    let parameters = place["parameters"].as_array().into_iter().flatten();
    parameters
        .filter_map(|parameter| parameter["name"].as_str())
        .collect()
}

#[test]
fn what_all_operations_of_a_path_take_is_told_once() {
    let document = v3_document("apps", "v1", &[deployments()], None);
    let object = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(names(object), ["name", "namespace", "pretty"]);
    assert_eq!(names(&object["get"]), [""; 0]);
    assert_eq!(
        names(&object["patch"]),
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let everywhere = &document["paths"]["/apis/apps/v1/deployments"];
    assert_eq!(names(&everywhere["get"]), [""; 0]);
    assert!(names(everywhere).contains(&"labelSelector"));
}

#[test]
fn built_in_kinds_have_paths_that_watch() {
    let document = v3_document("apps", "v1", &[deployments()], None);
    let schema = json!({"type": "object"});
    let custom = v3_document("stable.example.com", "v1", &[cron_tabs(&schema)], None);
    let watched = |document: &Value, path: &str| document["paths"][path]["get"].clone();
    for (path, id) in [
        ("deployments", "watchAppsV1DeploymentListForAllNamespaces"),
        (
            "namespaces/{namespace}/deployments",
            "watchAppsV1NamespacedDeploymentList",
        ),
        (
            "namespaces/{namespace}/deployments/{name}",
            "watchAppsV1NamespacedDeployment",
        ),
    ] {
        let path = format!("/apis/apps/v1/watch/{path}");
        assert_eq!(watched(&document, &path)["operationId"], id);
    }
    let path = "/apis/stable.example.com/v1/watch/crontabs";
    assert_eq!(watched(&custom, path), Value::Null);
}

#[test]
fn a_custom_resource_is_published_in_both_versions() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true},
            "b": {"x-kubernetes-int-or-string": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true}}}}});
    let name = "com.example.stable.v1.CronTab";

    let v3 = v3_document("stable.example.com", "v1", &[cron_tabs(&schema)], None);
    let schemas = &v3["components"]["schemas"];
    assert_closed(&v3, "#/components/schemas/", schemas);
    let spec = &schemas[name]["properties"]["spec"]["properties"];
    assert_eq!(spec["a"], json!({"type": "string", "nullable": true}));
    assert_eq!(
        spec["b"]["anyOf"],
        json!([{"type": "integer"}, {"type": "string"}])
    );
    assert_eq!(spec["pod"]["required"], json!(["kind", "apiVersion"]));

    let v2 = v2_document(&[cron_tabs(&schema), deployments()], None);
    assert_closed(&v2, "#/definitions/", &v2["definitions"]);
    let spec = &v2["definitions"][name]["properties"]["spec"];
    assert_eq!(spec["required"], json!(["b"]));
    assert_eq!(spec["properties"]["a"], json!({}));
    assert_eq!(
        spec["properties"]["b"],
        json!({"x-kubernetes-int-or-string": true})
    );
    assert_eq!(
        spec["properties"]["free"],
        json!({"x-kubernetes-preserve-unknown-fields": true})
    );
    assert!(v2["definitions"]["com.example.stable.v1.CronTabList"].is_object());
}

#[test]
fn a_root_that_preserves_unknown_fields_is_any_object_in_version_2() {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {"spec": {"type": "object"}}});
    let v2 = v2_document(&[cron_tabs(&schema)], None);
    assert_eq!(
        v2["definitions"]["com.example.stable.v1.CronTab"],
        json!({"type": "object", "x-kubernetes-group-version-kind":
               [{"group": "stable.example.com", "version": "v1", "kind": "CronTab"}]})
    );
}

#[test]
fn the_protobuf_form_begins_with_the_swagger_version() {
    let bytes = v2_to_protobuf(&v2_document(&[deployments()], None));
    assert!(bytes.starts_with(b"\x0a\x032.0\x12"));
}
