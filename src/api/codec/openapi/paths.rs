//! The paths of a document: for each resource its collection, its objects and its subresources.

use serde_json::{Map, Value, json};

use super::components::{Components, META};
use super::operation::{Answer, Body, Operation, answers, whole};
use super::parameters::{in_path, lift_common};
use super::{Dialect, ResourcePaths, ResourceSchema, SubresourcePaths, Verb, custom, model_name};

/// What a deletion of many objects cannot be: watched.
const NO_WATCH: &[&str] = &["watch", "allowWatchBookmarks"];

/// What is said of the paths that only watch.
const OUTDATED: &str = "deprecated: use the 'watch' parameter with a list operation instead";

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
        options: Vec::new(),
        is_pretty: false,
        body: None,
        responses: vec![("200", "OK", Some(resources))],
        is_custom: false,
        answer: Answer::Object,
    };
    let path = format!("{}/", root(group, version));
    paths.insert(path, json!({ "get": operation.write(components) }));
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
    let dialect = components.dialect;
    let (plural, is_namespaced) = (resource.plural, resource.is_namespaced);
    let scope = if is_namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let mut writer = Writer {
        components,
        resource,
    };
    let mut add = |path: &str, item, kind_of_name: Option<&str>| {
        add(paths, path, item, kind_of_name, dialect);
    };
    let collection = format!("{root}{scope}/{plural}");
    let object = format!("{collection}/{{name}}");
    let name = Some(resource.kind);
    add(&collection, writer.collection(), None);
    add(&object, writer.object(), name);
    if is_namespaced && resource.verbs.contains(&Verb::List) {
        add(&format!("{root}/{plural}"), writer.all_namespaces(), None);
    }
    // The paths of old times, beside which a watch is a list that goes on.
    if resource.verbs.contains(&Verb::Watch) && !writer.is_custom() {
        let watched = format!("{root}/watch{scope}/{plural}");
        add(&watched, writer.watch_many(""), None);
        add(&format!("{watched}/{{name}}"), writer.watch_one(), name);
        if is_namespaced {
            let everywhere = writer.watch_many("ForAllNamespaces");
            add(&format!("{root}/watch/{plural}"), everywhere, None);
        }
    }
    for subresource in resource.subresources {
        let path = format!("{object}/{}", subresource.name);
        let name = Some(kind_of_name(resource, subresource));
        add(&path, writer.subresource(subresource, ""), name);
        if subresource.name == "proxy" {
            let item = writer.subresource(subresource, "WithPath");
            add(&format!("{path}/{{path}}"), item, name);
        }
    }
}

/// A name in the path of a subresource is told to be that of the kind that is written there.
fn kind_of_name<'a>(resource: &ResourcePaths<'a>, subresource: &SubresourcePaths<'a>) -> &'a str {
    match subresource.name {
        "log" => resource.kind,
        _ => subresource.kind,
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

/// Puts a path in, with the parameters that are part of it or that all its operations take.
fn add(
    paths: &mut Map<String, Value>,
    path: &str,
    mut item: Map<String, Value>,
    kind_of_name: Option<&str>,
    dialect: Dialect,
) {
    if item.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if let Some(kind) = kind_of_name {
        parameters.push(in_path("name", &format!("name of the {kind}"), dialect));
    }
    if path.contains("{namespace}") {
        let description = "object name and auth scope, such as for teams and projects";
        parameters.push(in_path("namespace", description, dialect));
    }
    if path.ends_with("{path}") {
        parameters.push(in_path("path", "path to the resource", dialect));
    }
    lift_common(&mut item, parameters);
    paths.insert(path.to_owned(), Value::Object(item));
}

struct Writer<'a, 'b, 'c> {
    components: &'a mut Components<'b>,
    resource: &'a ResourcePaths<'c>,
}

impl<'c> Writer<'_, '_, 'c> {
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
            options: Vec::new(),
            is_pretty: true,
            body: None,
            responses: Vec::new(),
            is_custom: self.is_custom(),
            answer: Answer::Object,
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
            options: options(&["ListOptions"]),
            responses: vec![("200", "OK", Some(list))],
            answer: Answer::Watch,
            ..self.operation(
                "list",
                rest,
                format!("list or watch objects of kind {kind}"),
            )
        };
        operation.write(self.components)
    }

    fn all_namespaces(&mut self) -> Map<String, Value> {
        let rest = format!("{}ForAllNamespaces", self.resource.kind);
        Map::from_iter([("get".to_owned(), self.list_operation(&rest))])
    }

    fn watch_many(&mut self, place: &str) -> Map<String, Value> {
        let kind = self.resource.kind;
        let description = format!("watch individual changes to a list of {kind}. {OUTDATED}.");
        let scoped = match place {
            "" => self.scoped_kind(),
            _ => kind.to_owned(),
        };
        self.watch("watchlist", &format!("{scoped}List{place}"), description)
    }

    fn watch_one(&mut self) -> Map<String, Value> {
        let kind = self.resource.kind;
        let description = format!(
            "watch changes to an object of kind {kind}. {OUTDATED}, filtered to a single item with \
             the 'fieldSelector' parameter."
        );
        let scoped = self.scoped_kind();
        self.watch("watch", &scoped, description)
    }

    fn watch(&mut self, action: &'static str, rest: &str, text: String) -> Map<String, Value> {
        let event = self.components.meta_reference("WatchEvent");
        let operation = Operation {
            action: Some(action),
            options: options(&["ListOptions"]),
            responses: vec![("200", "OK", Some(event))],
            answer: Answer::Watch,
            ..self.operation("watch", rest, text)
        };
        Map::from_iter([("get".to_owned(), operation.write(self.components))])
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
                        options: options(&["CreateOptions"]),
                        body: Some(whole(model.clone())),
                        responses: answers(codes, &model),
                        ..self.operation(
                            "create",
                            &scoped,
                            format!("create {} {kind}", article(kind)),
                        )
                    };
                    item.insert("post".to_owned(), operation.write(self.components));
                }
                Verb::DeleteCollection => {
                    let status = self.components.meta_reference("Status");
                    let operation = Operation {
                        action: Some("deletecollection"),
                        options: vec![
                            (meta("DeleteOptions"), &[]),
                            (meta("ListOptions"), NO_WATCH),
                        ],
                        body: Some(self.delete_options()),
                        responses: answers(&["200"], &status),
                        ..self.operation("delete", "", format!("delete collection of {kind}"))
                    };
                    let operation = Operation {
                        id: format!("{}Collection{scoped}", operation.id),
                        ..operation
                    };
                    item.insert("delete".to_owned(), operation.write(self.components));
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
                    options: options(&["DeleteOptions"]),
                    body: Some(self.delete_options()),
                    responses: answers(&["200", "202"], &status),
                    ..self.operation("delete", &rest, format!("delete {} {kind}", article(kind)))
                };
                item.insert("delete".to_owned(), operation.write(self.components));
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
                    options: options(&["UpdateOptions"]),
                    body: Some(whole(model.clone())),
                    responses: answers(&["200", "201"], model),
                    ..self.operation("replace", rest, described("replace"))
                },
            ),
            Verb::Patch => (
                "patch",
                Operation {
                    action: Some("patch"),
                    options: options(&["PatchOptions"]),
                    body: Some(Body {
                        schema: self.components.meta_reference("Patch"),
                        is_required: true,
                        media_types: patches,
                    }),
                    responses: answers(&["200", "201"], model),
                    ..self.operation("patch", rest, described("partially update"))
                },
            ),
            _ => return,
        };
        item.insert(method.to_owned(), operation.write(self.components));
    }

    fn subresource(
        &mut self,
        subresource: &SubresourcePaths<'c>,
        suffix: &str,
    ) -> Map<String, Value> {
        let mut item = Map::new();
        let (name, kind) = (subresource.name, self.resource.kind);
        let rest = format!("{}{}{suffix}", self.scoped_kind(), capitalised(name));
        // Options of a connection stand in the query, so no model of them is told.
        let model = match subresource.verbs {
            [Verb::Connect] => Value::Null,
            _ => self.model(subresource.group, subresource.version, subresource.kind),
        };
        let model_kind = (subresource.group, subresource.version, subresource.kind);
        for verb in subresource.verbs {
            let described = |what: &str| format!("{what} {name} of the specified {kind}");
            self.object_verb(&mut item, *verb, &rest, &model, &described);
            if *verb == Verb::Create {
                let operation = Operation {
                    action: Some("post"),
                    options: options(&["CreateOptions"]),
                    body: Some(whole(model.clone())),
                    responses: answers(&["200", "201", "202"], &model),
                    ..self.operation(
                        "create",
                        &rest,
                        format!("create {name} of {} {kind}", article(kind)),
                    )
                };
                item.insert("post".to_owned(), operation.write(self.components));
            }
            if *verb == Verb::Get && name == "log" {
                let operation = self.operation("read", &rest, described("read"));
                item.insert("get".to_owned(), self.log(operation));
            }
            if *verb == Verb::Connect {
                self.connect(&mut item, subresource, &rest);
            }
        }
        for operation in item.values_mut() {
            let (group, version, kind) = model_kind;
            operation["x-kubernetes-group-version-kind"] =
                json!({"group": group, "version": version, "kind": kind});
        }
        item
    }

    /// A log is a text, and what is wanted of it stands in the query.
    fn log(&self, operation: Operation<'_>) -> Value {
        let operation = Operation {
            action: Some("get"),
            options: vec![(model_name("", "v1", "PodLogOptions"), &[])],
            responses: vec![("200", "OK", Some(json!({"type": "string"})))],
            answer: Answer::Log,
            ..operation
        };
        operation.write(self.components)
    }

    /// Requests that become streams carry the fields of an option kind in the query.
    fn connect(
        &self,
        item: &mut Map<String, Value>,
        subresource: &SubresourcePaths<'_>,
        rest: &str,
    ) {
        let name = subresource.name;
        let options = model_name(subresource.group, subresource.version, subresource.kind);
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
                options: vec![(options.clone(), &[])],
                is_pretty: false,
                answer: Answer::Stream,
                responses: vec![("200", "OK", Some(text))],
                ..self.operation("connect", "", description)
            };
            let operation = Operation {
                id: format!("{}{}{rest}", operation.id, capitalised(method)),
                ..operation
            };
            item.insert((*method).to_owned(), operation.write(self.components));
        }
    }
}

fn options(kinds: &[&str]) -> Vec<(String, &'static [&'static str])> {
    let all: &[&str] = &[];
    kinds.iter().map(|kind| (meta(kind), all)).collect()
}

fn meta(kind: &str) -> String {
    format!("{META}.{kind}")
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) {
        "an"
    } else {
        "a"
    }
}
