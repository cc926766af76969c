//! `/token` of a service account: a token for an audience, for a time, bound to an object.

use std::time::Duration;

use apimachinery::{
    ApiError, FieldError, FieldErrors, FieldPath, GroupKind, GroupResource, GroupVersion,
    GroupVersionKind, Object, ObjectKey,
};
use auth::{BoundObject, IssueToken};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, Run, WriteOptions};
use crate::decode;

/// What is asked for where nothing is said.
const LIFE_SECONDS_DEFAULT: i64 = 3600;

fn group_kind() -> GroupKind {
    GroupKind::new("authentication.k8s.io", "TokenRequest")
}

pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let Some(tokens) = call.state.config.tokens.as_ref() else {
        return Err(ApiError::internal("this server issues no tokens"));
    };
    let options = call.write_options()?;
    let kind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = decode::object_of(call, &kind, options.field_validation)?;
    check_names(call, &request)?;
    track(call, &kind, &mut request, &options)?;
    let account = call
        .state
        .store
        .get(&call.served.collection, &call.key())
        .await?;
    let uid = account.index.uid.clone();
    if !request.uid().is_empty() && request.uid() != uid {
        let why = format!(
            "the UID in the token request ({}) does not match the UID of the service account ({uid})",
            request.uid()
        );
        let about = GroupResource::new("authentication.k8s.io", "TokenRequest");
        return Err(ApiError::conflict(&about, &call.path.name, &why));
    }
    let seconds = request
        .at(&["spec", "expirationSeconds"])
        .and_then(Value::as_i64)
        .unwrap_or(LIFE_SECONDS_DEFAULT);
    check_life(seconds)?;
    let issue = IssueToken {
        namespace: call.path.namespace.clone(),
        service_account: call.path.name.clone(),
        service_account_uid: uid.clone(),
        audiences: texts(request.at(&["spec", "audiences"])),
        life: Duration::from_secs(seconds.unsigned_abs()),
        bound: bound_object(call, &request).await?,
    };
    request.set_metadata_text("name", call.path.name.clone());
    request.set_metadata_text("namespace", call.path.namespace.clone());
    request.set_metadata_text("uid", uid);
    request.set_metadata_text("creationTimestamp", call.state.now().to_seconds_string());
    request.set_at(&["spec", "expirationSeconds"], seconds.into());
    request.0.remove("status");
    if options.run == Run::Real {
        let issued = tokens.issue(&issue)?;
        request.set_at(&["spec", "audiences"], issued.audiences.into());
        let status = json!({"token": issued.token, "expirationTimestamp": issued.expires.to_seconds_string()});
        request.0.insert("status".to_owned(), status);
    }
    let mut tree = request.into_value();
    if let Some(type_ref) = schema::built_in(&kind.group, &kind.version, &kind.kind) {
        schema::canonicalise(&mut tree, schema::Node::Type(type_ref));
    }
    Ok(Answer::value(201, tree))
}

/// Notes who wrote the request, as for every kind.
fn track(
    call: &Call<'_>,
    kind: &GroupVersionKind,
    request: &mut Object,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    let type_ref = schema::built_in(&kind.group, &kind.version, &kind.kind)
        .ok_or_else(|| ApiError::internal(format!("nothing is known about {kind}")))?;
    let now = call.state.now().to_seconds_string();
    let actor = field_manager::Actor {
        manager: &options.field_manager,
        api_version: &kind.api_version(),
        subresource: "token",
        now: &now,
        writable: field_manager::Writable::AllBut(&[]),
    };
    field_manager::track(None, request, schema::Node::Type(type_ref), &actor);
    Ok(())
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect()
}

fn check_names(call: &Call<'_>, request: &Object) -> Result<(), ApiError> {
    let mut errors = FieldErrors::none();
    let path = FieldPath::new("metadata");
    let (name, namespace) = (request.name(), request.namespace());
    if !name.is_empty() && name != call.path.name {
        let why = "must match the service account name if specified";
        errors.push(FieldError::invalid(&path.child("name"), name, why));
    } else if !namespace.is_empty() && namespace != call.path.namespace {
        let why = "must match the service account namespace if specified";
        errors.push(FieldError::invalid(
            &path.child("namespace"),
            namespace,
            why,
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(&group_kind(), &call.path.name, &errors))
    }
}

fn check_life(seconds: i64) -> Result<(), ApiError> {
    let path = FieldPath::new("spec").child("expirationSeconds");
    let mut errors = FieldErrors::none();
    let min = i64::try_from(auth::TOKEN_LIFE_MIN.as_secs()).unwrap_or(i64::MAX);
    let max = i64::try_from(auth::TOKEN_LIFE_MAX.as_secs()).unwrap_or(i64::MAX);
    if seconds < min {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > max {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(&group_kind(), "", &errors))
    }
}

/// The object whose life bounds the token's, as it is now.
async fn bound_object(call: &Call<'_>, request: &Object) -> Result<Option<BoundObject>, ApiError> {
    let Some(reference) = request
        .at(&["spec", "boundObjectRef"])
        .filter(|value| value.is_object())
    else {
        return Ok(None);
    };
    let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
    let version = GroupVersion::parse(&text("apiVersion"));
    let (kind, name) = (text("kind"), text("name"));
    let (plural, namespace) = match (version.group.as_ref(), kind.as_str()) {
        ("", "Pod") => ("pods", call.path.namespace.as_str()),
        ("", "Secret") => ("secrets", call.path.namespace.as_str()),
        ("", "Node") => ("nodes", ""),
        _ => {
            let told = version.kind(kind);
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {told}"
            )));
        }
    };
    let object = read(call, plural, namespace, &name).await?;
    if plural == "pods" && object.text_at(&["spec", "serviceAccountName"]) != call.path.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.path.name
        )));
    }
    let told_uid = text("uid");
    if !told_uid.is_empty() && told_uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({told_uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(ApiError::conflict(
            &GroupResource::new("", kind),
            &name,
            &why,
        ));
    }
    let node_name = object.text_at(&["spec", "nodeName"]);
    let node = if plural == "pods" && !node_name.is_empty() {
        let uid = read(call, "nodes", "", &node_name)
            .await
            .map(|node| node.uid().to_owned())
            .unwrap_or_default();
        Some((node_name, uid))
    } else {
        None
    };
    Ok(Some(BoundObject {
        kind,
        name,
        uid: object.uid().to_owned(),
        node,
    }))
}

async fn read(
    call: &Call<'_>,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Object, ApiError> {
    call.state
        .read("", plural, &ObjectKey::namespaced(namespace, name))
        .await
}
