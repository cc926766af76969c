//! Writes answers in the form the client asked for.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, Object};
use bytes::Bytes;
use codec::{
    BUILT_IN_ENCODINGS, CUSTOM_ENCODINGS, ColumnDefinition, Encoding, IncludeObject, JsonList,
    ListItems, ListMetadata, MetaVersion, Negotiated, Offers, Table, Transform,
};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use schema::TypeRef;
use serde_json::Value;
use storage::List;

use crate::answer::Answer;
use crate::body::ResponseBody;
use crate::catalog::{Origin, Served};
use crate::filters::{Incoming, Response};
use crate::query::Query;
use crate::request_info::{RequestInfo, Verb};
use crate::state::State;
use crate::watch_body;

/// What the client can read, and how it wants tables and JSON to look.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    accept: String,
    include: String,
    is_pretty: bool,
}

impl Wish {
    pub(crate) fn of(request: &Incoming) -> Self {
        let query: &Query = &request.info.query;
        Self {
            accept: request.header("accept").to_owned(),
            include: query.get("includeObject").unwrap_or_default().to_owned(),
            is_pretty: query
                .get("pretty")
                .is_some_and(|text| matches!(text, "1" | "true")),
        }
    }

    /// Agrees on a form for answers about a kind.
    pub(crate) fn agree(&self, served: Option<&Served>, verb: Verb) -> Result<Form, ApiError> {
        let custom = served.is_some_and(|served| served.origin == Origin::Custom);
        let encodings = if custom {
            CUSTOM_ENCODINGS
        } else {
            BUILT_IN_ENCODINGS
        };
        let stored = served.is_some_and(|served| served.description.verbs.contains("list"));
        let offers = if stored {
            Offers::TablesAndMetadata
        } else {
            Offers::Objects
        };
        if !custom {
            self.is_routed(verb, stored)?;
        }
        let mut negotiated = match verb {
            Verb::Watch => codec::negotiate_watch(&self.accept, encodings, offers)?,
            _ => codec::negotiate(&self.accept, encodings, offers)?,
        };
        negotiated.is_pretty |= self.is_pretty;
        let include = match negotiated.transform {
            Transform::Table(_) => {
                IncludeObject::parse(&self.include).map_err(|_odd| odd_include(&self.include))?
            }
            _ => IncludeObject::Metadata,
        };
        Ok(Form {
            negotiated,
            include,
        })
    }

    /// Upstream's router looks at the header first, with rules and words of its own.
    fn is_routed(&self, verb: Verb, stored: bool) -> Result<(), ApiError> {
        let mut types: Vec<&str> = BUILT_IN_ENCODINGS
            .iter()
            .map(|encoding| encoding.media_type())
            .collect();
        let plain = types.clone();
        if stored && matches!(verb, Verb::List | Verb::Watch) {
            types.extend([
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ]);
        }
        let bare = |part: &str| part.split(';').next().unwrap_or_default().trim().to_owned();
        let fits = |part: &str| {
            let bare = bare(part);
            bare.is_empty() || bare == "*/*" || plain.contains(&bare.as_str())
        };
        if self.accept.split(',').any(fits) {
            return Ok(());
        }
        Err(not_routed(&types))
    }

    /// The form of errors, which are told in any case.
    fn for_errors(&self) -> Form {
        let negotiated = codec::negotiate(&self.accept, BUILT_IN_ENCODINGS, Offers::Discovery)
            .map_or(
                Negotiated {
                    encoding: Encoding::Json,
                    transform: Transform::None,
                    is_pretty: false,
                },
                |agreed| Negotiated {
                    transform: Transform::None,
                    ..agreed
                },
            );
        Form {
            negotiated,
            include: IncludeObject::Metadata,
        }
    }
}

/// No representation of a path fits.
pub(crate) fn not_routed(types: &[&str]) -> ApiError {
    ApiError::not_acceptable(format!(
        "406: Not Acceptable\n\nAvailable representations: {}",
        types.join(", ")
    ))
    .with_details(apimachinery::StatusDetails::default())
}

fn odd_include(include: &str) -> ApiError {
    ApiError::bad_request(format!(
        "Unable to convert to Table as requested: includeObject: Invalid value: {include:?}: must be 'Metadata', 'Object', \
         'None', or empty"
    ))
}

/// The form of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) negotiated: Negotiated,
    pub(crate) include: IncludeObject,
}

pub(crate) fn encode(
    state: &Arc<State>,
    info: &RequestInfo,
    wish: &Wish,
    answer: Result<Answer, ApiError>,
    warnings: &[String],
) -> Response {
    let verb = info
        .resource()
        .map_or(Verb::Get, crate::request_info::ResourcePath::verb);
    let written = answer.and_then(|answer| write(state, wish, verb, answer));
    let mut response = written.unwrap_or_else(|error| failure(&error, &wish.for_errors()));
    for warning in warnings {
        let text = format!(
            "299 - \"{}\"",
            warning.replace('\\', "\\\\").replace('"', "\\\"")
        );
        if let Ok(value) = HeaderValue::from_str(&text) {
            response
                .headers_mut()
                .append(HeaderName::from_static("warning"), value);
        }
    }
    response
}

fn write(
    state: &Arc<State>,
    wish: &Wish,
    verb: Verb,
    answer: Answer,
) -> Result<Response, ApiError> {
    match answer {
        Answer::Object {
            code,
            served,
            object,
        } => {
            let form = wish.agree(Some(&served), verb)?;
            let bytes = served.bytes(&object)?;
            form.object(state, code, &served, &bytes, object.revision)
        }
        Answer::Value {
            code,
            served,
            value,
        } => {
            let form = wish.agree(served.as_deref(), verb)?;
            match &served {
                Some(served) if form.negotiated.transform != Transform::None => {
                    let bytes = codec::encode_stored(&value);
                    form.object(state, code, served, &bytes, 0)
                }
                _ => form.value(code, &value),
            }
        }
        Answer::List { served, list } => {
            wish.agree(Some(&served), verb)?.list(state, &served, &list)
        }
        Answer::Watch {
            served,
            watch,
            timeout,
        } => {
            let form = wish.agree(Some(&served), Verb::Watch)?;
            Ok(watch_response(state, served, *watch, timeout, form))
        }
        Answer::Written(response) => Ok(response),
    }
}

fn watch_response(
    state: &Arc<State>,
    served: Arc<Served>,
    watch: storage::Watch,
    timeout: Duration,
    form: Form,
) -> Response {
    let content_type = form.negotiated.encoding.watch_media_type();
    let body = watch_body::stream(state.clone(), served, watch, timeout, form);
    response(200, content_type, body)
}

impl Form {
    /// One object, given as the bytes of its served version without resourceVersion.
    pub(crate) fn object(
        &self,
        state: &State,
        code: u16,
        served: &Served,
        bytes: &[u8],
        revision: i64,
    ) -> Result<Response, ApiError> {
        Ok(self.finish(
            code,
            self.object_bytes(state, served, bytes, revision, Columns::Told)?,
        ))
    }

    pub(crate) fn object_bytes(
        &self,
        state: &State,
        served: &Served,
        bytes: &[u8],
        revision: i64,
        columns: Columns,
    ) -> Result<Vec<u8>, ApiError> {
        let kind = &served.description.kind;
        match self.negotiated.transform {
            Transform::Table(version) => {
                let metadata = ListMetadata {
                    revision,
                    ..ListMetadata::default()
                };
                let mut table = self.table(served, &metadata, version, columns);
                push_row(&mut table, state, served, bytes, revision)?;
                self.plain(table.finish(), None)
            }
            Transform::PartialObjectMetadata(version) => {
                let mut out = Vec::with_capacity(512);
                codec::push_partial_metadata(&mut out, bytes, revision, version);
                out.push(b'\n');
                self.plain(
                    out,
                    Some(("meta.k8s.io", version.as_str(), "PartialObjectMetadata")),
                )
            }
            _ => {
                let mut out = Vec::with_capacity(bytes.len() + 48);
                if revision > 0 {
                    codec::push_with_resource_version(&mut out, bytes, revision);
                } else {
                    out.extend_from_slice(bytes);
                }
                out.push(b'\n');
                self.plain(out, Some((&kind.group, &kind.version, &kind.kind)))
            }
        }
    }

    fn table(
        &self,
        served: &Served,
        metadata: &ListMetadata<'_>,
        version: MetaVersion,
        columns: Columns,
    ) -> Table {
        let told = matches!(columns, Columns::Told).then(|| column_definitions(served));
        Table::new(told.as_deref(), metadata, self.include, version)
    }

    fn list(&self, state: &State, served: &Served, list: &List) -> Result<Response, ApiError> {
        let token = list
            .continue_token
            .as_ref()
            .map(storage::ContinueToken::encode);
        let metadata = ListMetadata {
            revision: list.revision,
            continue_token: token.as_deref(),
            remaining_item_count: list.remaining.and_then(|count| i64::try_from(count).ok()),
        };
        let description = &served.description;
        let bytes = match &self.negotiated.transform {
            Transform::Table(version) => {
                let mut table = self.table(served, &metadata, *version, Columns::Told);
                for item in &list.items {
                    push_row(
                        &mut table,
                        state,
                        served,
                        &served.bytes(item)?,
                        item.revision,
                    )?;
                }
                self.plain(table.finish(), None)?
            }
            Transform::PartialObjectMetadataList(version)
            | Transform::PartialObjectMetadata(version) => {
                let json = json_list(
                    JsonList::of_partial_metadata(&metadata, *version),
                    served,
                    list,
                )?;
                self.plain(
                    json,
                    Some(("meta.k8s.io", version.as_str(), "PartialObjectMetadataList")),
                )?
            }
            _ if self.negotiated.encoding == Encoding::Protobuf => {
                protobuf_list(served, &metadata, list)?
            }
            _ => {
                let items = if served.origin == Origin::BuiltIn {
                    ListItems::BuiltIn
                } else {
                    ListItems::Custom
                };
                // Lists of custom kinds always say where they go on.
                let always = (items == ListItems::Custom).then_some("");
                let metadata = ListMetadata {
                    continue_token: metadata.continue_token.or(always),
                    ..metadata
                };
                let api_version = description.kind.api_version();
                let head = JsonList::new(&description.list_kind, &api_version, &metadata, items);
                self.plain(json_list(head, served, list)?, None)?
            }
        };
        Ok(self.finish(200, bytes))
    }

    /// A document that is not stored.
    pub(crate) fn value(&self, code: u16, value: &Value) -> Result<Response, ApiError> {
        let bytes = self.value_bytes(value)?;
        Ok(self.finish(code, bytes))
    }

    pub(crate) fn value_bytes(&self, value: &Value) -> Result<Vec<u8>, ApiError> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let version = apimachinery::GroupVersion::parse(text("apiVersion"));
        // The oldest discovery documents do not say their version.
        let number = if version.version.is_empty() {
            "v1"
        } else {
            &version.version
        };
        let mut json = value.to_string().into_bytes();
        json.push(b'\n');
        self.plain(json, Some((&version.group, number, text("kind"))))
    }

    /// Turns JSON into the agreed encoding; protobuf needs to know the type.
    fn plain(&self, json: Vec<u8>, kind: Option<(&str, &str, &str)>) -> Result<Vec<u8>, ApiError> {
        match self.negotiated.encoding {
            Encoding::Json if self.negotiated.is_pretty => Ok(codec::pretty_json(&json)),
            Encoding::Json => Ok(json),
            Encoding::Yaml => codec::json_to_yaml(&json).map_err(ApiError::internal),
            Encoding::Protobuf => {
                let found = kind.and_then(|(group, version, kind)| {
                    let api_version =
                        apimachinery::GroupVersion::new(group.to_owned(), version.to_owned())
                            .to_string();
                    Some((schema::built_in(group, version, kind)?, api_version, kind))
                });
                let Some((type_ref, api_version, kind)) = found else {
                    return Err(ApiError::not_acceptable("this has no protobuf form"));
                };
                codec::protobuf::encode(&json, type_ref, &api_version, kind)
                    .map_err(ApiError::internal)
            }
        }
    }

    fn finish(&self, code: u16, bytes: Vec<u8>) -> Response {
        response(
            code,
            self.negotiated.encoding.media_type(),
            ResponseBody::whole(bytes),
        )
    }
}

/// Whether a table tells its columns; in a watch only the first does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    Told,
    Known,
}

fn json_list(mut json: JsonList, served: &Served, list: &List) -> Result<Vec<u8>, ApiError> {
    for item in &list.items {
        json.push(&served.bytes(item)?, item.revision);
    }
    Ok(json.finish())
}

fn protobuf_list(
    served: &Served,
    metadata: &ListMetadata<'_>,
    list: &List,
) -> Result<Vec<u8>, ApiError> {
    let description = &served.description;
    // Objects are seldom larger in protobuf than in JSON.
    let size_guess = list.items.iter().map(|item| item.bytes.len()).sum();
    let mut protobuf = codec::protobuf::ProtobufList::new(
        (&description.kind.api_version(), &description.list_kind),
        metadata,
        type_of(served)?,
        size_guess,
    )
    .map_err(ApiError::internal)?;
    for item in &list.items {
        protobuf
            .push(&served.bytes(item)?, item.revision)
            .map_err(ApiError::internal)?;
    }
    Ok(protobuf.finish())
}

fn type_of(served: &Served) -> Result<TypeRef, ApiError> {
    served
        .resource
        .schema()
        .type_ref()
        .ok_or_else(|| ApiError::not_acceptable("custom resources have no protobuf form"))
}

fn push_row(
    table: &mut Table,
    state: &State,
    served: &Served,
    bytes: &[u8],
    revision: i64,
) -> Result<(), ApiError> {
    let cells = served
        .resource
        .row(bytes, state.now())
        .map_err(ApiError::internal)?;
    if served.description.kind.kind == "DaemonSet" {
        table.push(&cells, &without_template_generation(bytes)?, revision);
    } else {
        table.push(&cells, bytes, revision);
    }
    Ok(())
}

/// What a daemon set's table shows of it has no count of templates, which is an annotation in its own version only.
fn without_template_generation(bytes: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut object = Object::from_slice(bytes).map_err(ApiError::internal)?;
    object.remove_at(&[
        "metadata",
        "annotations",
        "deprecated.daemonset.template.generation",
    ]);
    if object.annotations().next().is_none() {
        object.remove_at(&["metadata", "annotations"]);
    }
    Ok(codec::encode_stored(&object.into_value()))
}

fn column_definitions(served: &Served) -> Vec<ColumnDefinition> {
    let columns = served.resource.columns().into_iter();
    columns
        .map(|column| ColumnDefinition {
            name: column.name.into_owned(),
            column_type: column.kind.into_owned(),
            format: column.format.into_owned(),
            description: column.description.into_owned(),
            priority: column.priority,
        })
        .collect()
}

pub(crate) fn json_response(code: u16, body: impl Into<Bytes>) -> Response {
    response(code, "application/json", ResponseBody::whole(body))
}

pub(crate) fn text_response(code: u16, body: impl Into<Bytes>) -> Response {
    let mut response = response(code, "text/plain; charset=utf-8", ResponseBody::whole(body));
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

pub(crate) fn response(code: u16, content_type: &'static str, body: ResponseBody) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

fn failure(error: &ApiError, form: &Form) -> Response {
    let status = error.to_status();
    let mut response = form
        .value(error.code, &status)
        .unwrap_or_else(|_unwritable| json_response(error.code, status.to_string()));
    let retry = error
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}
