//! The paths of a document: for each resource its collection, its objects and its subresources.

use serde_json::{Map, Value, json};

use super::components::Components;
use super::{Dialect, ResourcePaths, ResourceSchema, SubresourcePaths, Verb, custom, model_name};

/// A parameter of a request: name and type; descriptions come with the option types.
type Parameter = (&'static str, &'static str);

const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: &[Parameter] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const PATCH: &[Parameter] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const DELETE: &[Parameter] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
    ),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETE_COLLECTION: &[Parameter] = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
    ),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];

const BUILT_IN_PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Adds the path that lists the resources of a group version.
pub(super) fn group_version(
    paths: &mut Map<String, Value>,
    components: &mut Components<'_>,
    group: &str,
    version: &str,
) {
    let resources = components.meta_reference("APIResourceList");
    let operation = Operation {
        id: format!("get{}APIResources", id_part(group, version)),
        description: "get available resources".to_owned(),
        tag: tag(group, version),
        action: None,
        kind: None,
        parameters: &[],
        body: None,
        responses: vec![("200", "OK", Some(resources))],
        is_custom: false,
        is_list: false,
    };
    let path = format!("{}/", root(group, version));
    paths.insert(path, json!({ "get": operation.write(components.dialect) }));
}

/// Adds all paths of a resource, and its models where it is a custom one.
pub(super) fn resource(
    paths: &mut Map<String, Value>,
    components: &mut Components<'_>,
    resource: &ResourcePaths<'_>,
) {
    if let ResourceSchema::Custom(custom) = &resource.schema {
        custom::models(components, resource, custom);
    }
    let root = root(resource.group, resource.version);
    let scope = if resource.is_namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}{scope}/{}", resource.plural);
    let mut writer = Writer {
        components,
        resource,
    };
    add(
        paths,
        &collection,
        writer.collection(),
        resource.is_namespaced,
        None,
        writer.dialect(),
    );
    if resource.is_namespaced && resource.verbs.contains(&Verb::List) {
        let all = format!("{root}/{}", resource.plural);
        let item = writer.all_namespaces();
        add(paths, &all, item, false, None, writer.dialect());
    }
    let object = format!("{collection}/{{name}}");
    let name = Some(resource.kind);
    add(
        paths,
        &object,
        writer.object(),
        resource.is_namespaced,
        name,
        writer.dialect(),
    );
    for subresource in resource.subresources {
        let path = format!("{object}/{}", subresource.name);
        let item = writer.subresource(subresource, "");
        add(
            paths,
            &path,
            item,
            resource.is_namespaced,
            name,
            writer.dialect(),
        );
        if subresource.name == "proxy" {
            let path = format!("{path}/{{path}}");
            let item = writer.subresource(subresource, "WithPath");
            add(
                paths,
                &path,
                item,
                resource.is_namespaced,
                name,
                writer.dialect(),
            );
        }
    }
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

fn group_words(group: &str) -> Vec<&str> {
    match group {
        "" => vec!["core"],
        group => group
            .strip_suffix(".k8s.io")
            .unwrap_or(group)
            .split(['.', '-'])
            .collect(),
    }
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

/// `AppsV1`, `RbacAuthorizationV1`.
fn id_part(group: &str, version: &str) -> String {
    let words: String = group_words(group).into_iter().map(capitalised).collect();
    words + &capitalised(version)
}

/// `apps_v1`, `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
    let words = group_words(group);
    let rest: String = words[1..].iter().map(|word| capitalised(word)).collect();
    format!("{}{rest}_{version}", words[0])
}

/// Puts a path in, with the parameters that are part of it.
fn add(
    paths: &mut Map<String, Value>,
    path: &str,
    mut item: Map<String, Value>,
    is_namespaced: bool,
    kind_of_name: Option<&str>,
    dialect: Dialect,
) {
    if item.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if let Some(kind) = kind_of_name {
        let description = format!("name of the {kind}");
        parameters.push(path_parameter("name", &description, dialect));
    }
    if is_namespaced {
        let description = "object name and auth scope, such as for teams and projects";
        parameters.push(path_parameter("namespace", description, dialect));
    }
    if path.ends_with("{path}") {
        let description = "path to the resource";
        parameters.push(path_parameter("path", description, dialect));
    }
    parameters.push(query_parameter(("pretty", "string"), dialect));
    item.insert("parameters".to_owned(), Value::Array(parameters));
    paths.insert(path.to_owned(), Value::Object(item));
}

fn path_parameter(name: &str, description: &str, dialect: Dialect) -> Value {
    let mut parameter =
        json!({"name": name, "in": "path", "required": true, "description": description});
    typed(&mut parameter, "string", dialect);
    parameter
}

fn query_parameter((name, type_name): Parameter, dialect: Dialect) -> Value {
    let mut parameter = json!({"name": name, "in": "query"});
    typed(&mut parameter, type_name, dialect);
    parameter
}

fn typed(parameter: &mut Value, type_name: &str, dialect: Dialect) {
    let schema = json!({"type": type_name, "uniqueItems": true});
    match dialect {
        Dialect::V2 => {
            parameter["type"] = schema["type"].clone();
            parameter["uniqueItems"] = Value::from(true);
        }
        Dialect::V3 => parameter["schema"] = schema,
    }
}

/// One operation before it is written in either dialect.
struct Operation<'a> {
    id: String,
    description: String,
    tag: String,
    action: Option<&'static str>,
    kind: Option<(&'a str, &'a str, &'a str)>,
    parameters: &'static [Parameter],
    body: Option<Body>,
    responses: Vec<(&'static str, &'static str, Option<Value>)>,
    is_custom: bool,
    is_list: bool,
}

struct Body {
    schema: Value,
    is_required: bool,
    media_types: &'static [&'static str],
}

impl Operation<'_> {
    fn media_types(&self) -> Vec<&'static str> {
        let mut types = vec!["application/json", "application/yaml"];
        if !self.is_custom {
            types.push(PROTOBUF);
        }
        if self.is_list {
            types.push("application/json;stream=watch");
            if !self.is_custom {
                types.push("application/vnd.kubernetes.protobuf;stream=watch");
            }
        }
        types
    }

    fn write(self, dialect: Dialect) -> Value {
        let mut out = json!({
            "description": self.description,
            "operationId": self.id,
            "tags": [self.tag],
        });
        if let Some(action) = self.action {
            out["x-kubernetes-action"] = Value::from(action);
        }
        if let Some((group, version, kind)) = self.kind {
            out["x-kubernetes-group-version-kind"] =
                json!({"group": group, "version": version, "kind": kind});
        }
        let parameters: Vec<Value> = self
            .parameters
            .iter()
            .map(|one| query_parameter(*one, dialect))
            .collect();
        match dialect {
            Dialect::V2 => self.finish_v2(&mut out, parameters),
            Dialect::V3 => self.finish_v3(&mut out, parameters),
        }
        out
    }

    fn finish_v2(&self, out: &mut Value, mut parameters: Vec<Value>) {
        out["schemes"] = json!(["https"]);
        out["produces"] = json!(self.media_types());
        out["consumes"] = json!(["*/*"]);
        if let Some(body) = &self.body {
            out["consumes"] = json!(body.media_types);
            let mut parameter = json!({"name": "body", "in": "body", "schema": body.schema});
            if body.is_required {
                parameter["required"] = Value::from(true);
            }
            parameters.insert(0, parameter);
        }
        if !parameters.is_empty() {
            out["parameters"] = Value::Array(parameters);
        }
        let mut responses = Map::new();
        for (code, description, schema) in &self.responses {
            let mut response = json!({ "description": description });
            if let Some(schema) = schema {
                response["schema"] = schema.clone();
            }
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        out["responses"] = Value::Object(responses);
    }

    fn finish_v3(&self, out: &mut Value, parameters: Vec<Value>) {
        if !parameters.is_empty() {
            out["parameters"] = Value::Array(parameters);
        }
        if let Some(body) = &self.body {
            let content: Map<String, Value> = body
                .media_types
                .iter()
                .map(|media_type| ((*media_type).to_owned(), json!({"schema": body.schema})))
                .collect();
            out["requestBody"] = json!({ "content": content });
            if body.is_required {
                out["requestBody"]["required"] = Value::from(true);
            }
        }
        let mut responses = Map::new();
        for (code, description, schema) in &self.responses {
            let mut response = json!({ "description": description });
            if let Some(schema) = schema {
                let content: Map<String, Value> = self
                    .media_types()
                    .into_iter()
                    .map(|media_type| (media_type.to_owned(), json!({ "schema": schema })))
                    .collect();
                response["content"] = Value::Object(content);
            }
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        out["responses"] = Value::Object(responses);
    }
}

struct Writer<'a, 'b, 'c> {
    components: &'a mut Components<'b>,
    resource: &'a ResourcePaths<'c>,
}

impl<'c> Writer<'_, '_, 'c> {
    fn dialect(&self) -> Dialect {
        self.components.dialect
    }

    fn is_custom(&self) -> bool {
        matches!(self.resource.schema, ResourceSchema::Custom(_))
    }

    fn model(&mut self, group: &str, version: &str, kind: &str) -> Value {
        self.components.reference(&model_name(group, version, kind))
    }

    /// `NamespacedDeployment`, `Node`.
    fn scoped_kind(&self) -> String {
        let scope = if self.resource.is_namespaced {
            "Namespaced"
        } else {
            ""
        };
        format!("{scope}{}", self.resource.kind)
    }

    fn operation(&self, verb: &str, rest: &str, description: String) -> Operation<'c> {
        let (group, version) = (self.resource.group, self.resource.version);
        Operation {
            id: format!("{verb}{}{rest}", id_part(group, version)),
            description,
            tag: tag(group, version),
            action: None,
            kind: Some((group, version, self.resource.kind)),
            parameters: &[],
            body: None,
            responses: Vec::new(),
            is_custom: self.is_custom(),
            is_list: false,
        }
    }

    fn object_model(&mut self) -> Value {
        self.model(
            self.resource.group,
            self.resource.version,
            self.resource.kind,
        )
    }

    fn list_operation(&mut self, rest: &str) -> Value {
        let resource = self.resource;
        let list = self.model(resource.group, resource.version, resource.list_kind);
        let kind = resource.kind;
        let operation = Operation {
            action: Some("list"),
            parameters: LIST,
            responses: vec![("200", "OK", Some(list))],
            is_list: true,
            ..self.operation(
                "list",
                rest,
                format!("list or watch objects of kind {kind}"),
            )
        };
        operation.write(self.dialect())
    }

    fn all_namespaces(&mut self) -> Map<String, Value> {
        let rest = format!("{}ForAllNamespaces", self.resource.kind);
        Map::from_iter([("get".to_owned(), self.list_operation(&rest))])
    }

    fn collection(&mut self) -> Map<String, Value> {
        let mut item = Map::new();
        let (kind, scoped) = (self.resource.kind, self.scoped_kind());
        for verb in self.resource.verbs {
            match verb {
                Verb::List => {
                    item.insert("get".to_owned(), self.list_operation(&scoped));
                }
                Verb::Create => {
                    let model = self.object_model();
                    let codes = &["200", "201", "202"];
                    let operation = Operation {
                        action: Some("post"),
                        parameters: WRITE,
                        body: Some(whole(model.clone())),
                        responses: answers(codes, &model),
                        ..self.operation(
                            "create",
                            &scoped,
                            format!("create {} {kind}", article(kind)),
                        )
                    };
                    item.insert("post".to_owned(), operation.write(self.dialect()));
                }
                Verb::DeleteCollection => {
                    let status = self.components.meta_reference("Status");
                    let operation = Operation {
                        action: Some("deletecollection"),
                        parameters: DELETE_COLLECTION,
                        body: Some(self.delete_options()),
                        responses: answers(&["200"], &status),
                        ..self.operation("delete", "", format!("delete collection of {kind}"))
                    };
                    let operation = Operation {
                        id: format!("{}Collection{scoped}", operation.id),
                        ..operation
                    };
                    item.insert("delete".to_owned(), operation.write(self.dialect()));
                }
                _ => {}
            }
        }
        item
    }

    fn delete_options(&mut self) -> Body {
        let schema = self.components.meta_reference("DeleteOptions");
        Body {
            schema,
            is_required: false,
            media_types: &["*/*"],
        }
    }

    fn object(&mut self) -> Map<String, Value> {
        let mut item = Map::new();
        let (kind, rest) = (self.resource.kind, self.scoped_kind());
        let model = self.object_model();
        for verb in self.resource.verbs {
            let described = |what: &str| format!("{what} the specified {kind}");
            self.object_verb(&mut item, *verb, &rest, &model, &described);
            if *verb == Verb::Delete {
                let status = self.components.meta_reference("Status");
                let operation = Operation {
                    action: Some("delete"),
                    parameters: DELETE,
                    body: Some(self.delete_options()),
                    responses: answers(&["200", "202"], &status),
                    ..self.operation("delete", &rest, format!("delete {} {kind}", article(kind)))
                };
                item.insert("delete".to_owned(), operation.write(self.dialect()));
            }
        }
        item
    }

    /// Read, replace and patch are alike for objects and subresources.
    fn object_verb(
        &mut self,
        item: &mut Map<String, Value>,
        verb: Verb,
        rest: &str,
        model: &Value,
        described: &dyn Fn(&str) -> String,
    ) {
        let patch = self.components.meta_reference("Patch");
        let patches = if self.is_custom() {
            CUSTOM_PATCHES
        } else {
            BUILT_IN_PATCHES
        };
        let (method, operation) = match verb {
            Verb::Get => {
                let operation = self.operation("read", rest, described("read"));
                let responses = answers(&["200"], model);
                (
                    "get",
                    Operation {
                        action: Some("get"),
                        responses,
                        ..operation
                    },
                )
            }
            Verb::Update => (
                "put",
                Operation {
                    action: Some("put"),
                    parameters: WRITE,
                    body: Some(whole(model.clone())),
                    responses: answers(&["200", "201"], model),
                    ..self.operation("replace", rest, described("replace"))
                },
            ),
            Verb::Patch => (
                "patch",
                Operation {
                    action: Some("patch"),
                    parameters: PATCH,
                    body: Some(Body {
                        schema: patch,
                        is_required: true,
                        media_types: patches,
                    }),
                    responses: answers(&["200", "201"], model),
                    ..self.operation("patch", rest, described("partially update"))
                },
            ),
            _ => return,
        };
        item.insert(method.to_owned(), operation.write(self.dialect()));
    }

    fn subresource(
        &mut self,
        subresource: &SubresourcePaths<'c>,
        suffix: &str,
    ) -> Map<String, Value> {
        let mut item = Map::new();
        let (name, kind) = (subresource.name, self.resource.kind);
        let rest = format!("{}{}{suffix}", self.scoped_kind(), capitalised(name));
        let model = self.model(subresource.group, subresource.version, subresource.kind);
        let model_kind = (subresource.group, subresource.version, subresource.kind);
        for verb in subresource.verbs {
            let described = |what: &str| format!("{what} {name} of the specified {kind}");
            self.object_verb(&mut item, *verb, &rest, &model, &described);
            if *verb == Verb::Create {
                let operation = Operation {
                    action: Some("post"),
                    parameters: WRITE,
                    body: Some(whole(model.clone())),
                    responses: answers(&["200", "201", "202"], &model),
                    ..self.operation(
                        "create",
                        &rest,
                        format!("create {name} of {} {kind}", article(kind)),
                    )
                };
                item.insert("post".to_owned(), operation.write(self.dialect()));
            }
            if *verb == Verb::Connect {
                self.connect(&mut item, name, &rest);
            }
        }
        self.add_options(&mut item, subresource);
        for operation in item.values_mut() {
            let (group, version, kind) = model_kind;
            operation["x-kubernetes-group-version-kind"] =
                json!({"group": group, "version": version, "kind": kind});
        }
        item
    }

    /// Requests without a body carry the fields of an option kind in the query.
    fn add_options(&self, item: &mut Map<String, Value>, subresource: &SubresourcePaths<'_>) {
        let kind = match subresource.name {
            "log" => "PodLogOptions",
            _ if subresource.verbs.contains(&Verb::Connect) => subresource.kind,
            _ => return,
        };
        let options = schema::built_in(subresource.group, subresource.version, kind);
        let parameters: Vec<Value> = options
            .into_iter()
            .flat_map(schema::TypeRef::fields)
            .filter(|field| !matches!(field.json_name(), "kind" | "apiVersion"))
            .filter(|field| !field.is_gated_off())
            .map(|field| {
                let type_name = match field.shape().shape() {
                    schema::Shape::Bool => "boolean",
                    schema::Shape::Int32 | schema::Shape::Int64 => "integer",
                    _ => "string",
                };
                query_parameter((field.json_name(), type_name), self.dialect())
            })
            .collect();
        if !parameters.is_empty() {
            for operation in item.values_mut() {
                operation["parameters"] = Value::Array(parameters.clone());
            }
        }
    }

    fn connect(&self, item: &mut Map<String, Value>, name: &str, rest: &str) {
        let methods: &[&str] = if name == "proxy" {
            &["get", "put", "post", "delete", "options", "head", "patch"]
        } else {
            &["get", "post"]
        };
        for method in methods {
            let text = json!({"type": "string"});
            let description = format!(
                "connect {} requests to {name} of {}",
                method.to_uppercase(),
                self.resource.kind
            );
            let operation = Operation {
                action: Some("connect"),
                responses: vec![("200", "OK", Some(text))],
                ..self.operation("connect", "", description)
            };
            let operation = Operation {
                id: format!("{}{}{rest}", operation.id, capitalised(method)),
                ..operation
            };
            item.insert((*method).to_owned(), operation.write(self.dialect()));
        }
    }
}

fn whole(schema: Value) -> Body {
    Body {
        schema,
        is_required: true,
        media_types: &["*/*"],
    }
}

fn answers(
    codes: &[&'static str],
    model: &Value,
) -> Vec<(&'static str, &'static str, Option<Value>)> {
    codes
        .iter()
        .map(|code| {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            (*code, description, Some(model.clone()))
        })
        .collect()
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) {
        "an"
    } else {
        "a"
    }
}
