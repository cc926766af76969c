//! One operation of a path, written as either version of `OpenAPI` writes it.

use serde_json::{Map, Value, json};

use super::components::Components;
use super::{Dialect, parameters};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// One operation before it is written in either dialect.
pub(super) struct Operation<'a> {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) tag: String,
    pub(super) action: Option<&'static str>,
    pub(super) kind: Option<(&'a str, &'a str, &'a str)>,
    /// Models whose fields are parameters, with the fields that are none.
    pub(super) options: Vec<(String, &'static [&'static str])>,
    pub(super) is_pretty: bool,
    pub(super) body: Option<Body>,
    pub(super) responses: Vec<(&'static str, &'static str, Option<Value>)>,
    pub(super) is_custom: bool,
    pub(super) answer: Answer,
}

/// What an operation answers with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Object,
    /// A list, or the events of a watch.
    Watch,
    Log,
    /// A connection that is passed on.
    Stream,
}

pub(super) struct Body {
    pub(super) schema: Value,
    pub(super) is_required: bool,
    pub(super) media_types: &'static [&'static str],
}

impl Operation<'_> {
    fn media_types(&self) -> Vec<&'static str> {
        if self.answer == Answer::Stream {
            return vec!["*/*"];
        }
        let mut types = vec!["application/json", "application/yaml"];
        if !self.is_custom {
            types.push(PROTOBUF);
        }
        match self.answer {
            Answer::Log => types.push("text/plain"),
            Answer::Watch if self.is_custom => types.push("application/json;stream=watch"),
            Answer::Watch => types.extend([
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ]),
            Answer::Object | Answer::Stream => {}
        }
        types
    }

    pub(super) fn write(self, components: &Components<'_>) -> Value {
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
        let mut parameters: Vec<Value> = Vec::new();
        for (model, without) in &self.options {
            parameters.extend(parameters::of_options(components, model, without));
        }
        if self.is_pretty {
            parameters.push(parameters::pretty(components));
        }
        match components.dialect {
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

/// A body of any of the object forms.
pub(super) fn whole(schema: Value) -> Body {
    Body {
        schema,
        is_required: true,
        media_types: &["*/*"],
    }
}

/// The answers with these codes, each of them the model.
pub(super) fn answers(
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
