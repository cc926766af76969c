//! Kinds that are questions: answered and not kept.

use apimachinery::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind, Object, ObjectKey};
use auth::{Attributes, Decision, User};
use serde_json::{Value, json};

use crate::answer::{Answer, method_not_allowed};
use crate::call::{Call, WriteOptions};
use crate::subresources;
use crate::{managed_fields, metadata};

pub(crate) async fn create(
    call: &Call<'_>,
    mut object: Object,
    options: &WriteOptions,
) -> Result<Answer, ApiError> {
    let kind = call.served.description.kind.kind.clone();
    if call.served.description.is_namespaced() {
        metadata::match_namespace(&mut object, call.namespace())?;
    }
    match kind.as_ref() {
        "Binding" => bind(call, &object).await,
        "TokenReview" => {
            managed_fields::on_create(call, &mut object, options)?;
            review_token(call, object).await
        }
        "SelfSubjectReview" => Ok(answer(call, self_subject(call, object))),
        "SelfSubjectRulesReview" => rules(call, object).map(|object| answer(call, object)),
        "SubjectAccessReview" | "LocalSubjectAccessReview" | "SelfSubjectAccessReview" => {
            managed_fields::on_create(call, &mut object, options)?;
            review_access(call, object, &kind).await
        }
        _ => Err(method_not_allowed()),
    }
}

fn answer(call: &Call<'_>, object: Object) -> Answer {
    let mut tree = object.into_value();
    schema::canonicalise(&mut tree, call.served.resource.schema());
    Answer::value(201, tree)
}

/// The old way to bind a pod: the binding's own name says which.
async fn bind(call: &Call<'_>, binding: &Object) -> Result<Answer, ApiError> {
    let catalog = call.state.catalog.load_full();
    let pods = catalog
        .find("", "v1", "pods")
        .ok_or_else(|| ApiError::internal("pods are not served"))?;
    let pods = Call {
        served: pods,
        body: bytes::Bytes::new(),
        ..*call
    };
    let key = ObjectKey::namespaced(binding.namespace(), binding.name());
    subresources::binding::bind(&pods, &key, binding).await
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn self_subject(call: &Call<'_>, mut object: Object) -> Object {
    object.0.remove("metadata");
    object.set_metadata_text("creationTimestamp", call.state.now().to_seconds_string());
    object.0.insert(
        "status".to_owned(),
        json!({"userInfo": user_info(call.user())}),
    );
    object
}

async fn review_token(call: &Call<'_>, mut object: Object) -> Result<Answer, ApiError> {
    let token = object.text_at(&["spec", "token"]);
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let audiences: Vec<String> = object
        .at(&["spec", "audiences"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect();
    let reviewed = match &call.state.config.tokens {
        Some(tokens) => tokens.review(&token, &audiences).await,
        None => Ok(None),
    };
    let status = match reviewed {
        Ok(Some((user, audiences))) => {
            let mut user = user;
            if !user.is_in(auth::AUTHENTICATED_GROUP) {
                user.groups.push(auth::AUTHENTICATED_GROUP.to_owned());
            }
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        Ok(None) => json!({"user": {}, "error": "invalid bearer token"}),
        Err(error) => json!({"user": {}, "error": format!("[invalid bearer token, {error}]")}),
    };
    object.0.insert("status".to_owned(), status);
    Ok(answer(call, object))
}

fn rules(call: &Call<'_>, object: Object) -> Result<Object, ApiError> {
    let namespace = object.text_at(&["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = call
        .state
        .config
        .rbac
        .as_ref()
        .map(|rbac| rbac.rules_for(call.user(), &namespace))
        .unwrap_or_default();
    let (mut resource_rules, mut other_rules) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut document = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                document["resourceNames"] = json!(rule.resource_names);
            }
            resource_rules.push(document);
        } else if !rule.non_resource_urls.is_empty() {
            other_rules
                .push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut answer = registry::empty_object(&call.served.description.kind);
    answer.0.insert("spec".to_owned(), json!({}));
    let status = json!({"resourceRules": resource_rules, "nonResourceRules": other_rules, "incomplete": false});
    answer.0.insert("status".to_owned(), status);
    Ok(answer)
}

async fn review_access(
    call: &Call<'_>,
    mut object: Object,
    kind: &str,
) -> Result<Answer, ApiError> {
    let errors = access_errors(&object, kind);
    if !errors.is_empty() {
        // Upstream leaves the kind out here.
        let kind = GroupKind::new("authorization.k8s.io", "");
        return Err(ApiError::invalid(&kind, "", &errors));
    }
    if kind == "LocalSubjectAccessReview" && object.namespace() != call.namespace() {
        let why = format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            call.namespace()
        );
        return Err(ApiError::bad_request(why));
    }
    let user = if kind == "SelfSubjectAccessReview" {
        call.user().clone()
    } else {
        subject(&object)
    };
    let attributes = asked(&object, user);
    let status = match call.state.authorizer().authorize(&attributes).await {
        Decision::Allow { reason } => with_reason(json!({"allowed": true}), reason),
        Decision::Deny { reason } => with_reason(json!({"allowed": false, "denied": true}), reason),
        Decision::NoOpinion { reason } => with_reason(json!({"allowed": false}), reason),
    };
    object.0.insert("status".to_owned(), status);
    Ok(answer(call, object))
}

fn with_reason(mut status: Value, reason: String) -> Value {
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

fn subject(object: &Object) -> User {
    let list = |value: Option<&Value>| -> Vec<String> {
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(Into::into)
            .collect()
    };
    let extra = object.at(&["spec", "extra"]).and_then(Value::as_object);
    User {
        name: object.text_at(&["spec", "user"]),
        uid: object.text_at(&["spec", "uid"]),
        groups: list(object.at(&["spec", "groups"])),
        // Authorizers see keys in lower case, as the headers that carry them would.
        extra: extra
            .into_iter()
            .flatten()
            .map(|(key, values)| (key.to_lowercase(), list(Some(values))))
            .collect(),
    }
}

fn asked(object: &Object, user: User) -> Attributes {
    let resource = |field: &str| object.text_at(&["spec", "resourceAttributes", field]);
    if object
        .at(&["spec", "resourceAttributes"])
        .is_some_and(Value::is_object)
    {
        let version = resource("version");
        return Attributes {
            user,
            verb: resource("verb"),
            namespace: resource("namespace"),
            api_group: resource("group"),
            api_version: if version.is_empty() {
                "*".to_owned()
            } else {
                version
            },
            resource: resource("resource"),
            subresource: resource("subresource"),
            name: resource("name"),
            ..Attributes::default()
        };
    }
    let path = |field: &str| object.text_at(&["spec", "nonResourceAttributes", field]);
    Attributes {
        user,
        verb: path("verb"),
        path: Some(path("path")),
        ..Attributes::default()
    }
}

fn access_errors(object: &Object, kind: &str) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let spec = FieldPath::new("spec");
    let part = |field: &str| {
        object
            .at(&["spec", field])
            .filter(|value| value.is_object())
    };
    let (resource, other) = (part("resourceAttributes"), part("nonResourceAttributes"));
    match (resource, other) {
        (Some(_), Some(other)) => errors.push(FieldError::invalid(
            &spec.child("nonResourceAttributes"),
            other.clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            &spec.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let has_groups = object
        .at(&["spec", "groups"])
        .and_then(Value::as_array)
        .is_some_and(|groups| !groups.is_empty());
    if kind != "SelfSubjectAccessReview"
        && object.text_at(&["spec", "user"]).is_empty()
        && !has_groups
    {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&spec.child("user"), "", why));
    }
    let is_local = kind == "LocalSubjectAccessReview";
    let other_metadata = object.metadata().into_iter().flatten().any(|(key, value)| {
        key != "managedFields" && !(is_local && key == "namespace") && !value.is_null()
    });
    if other_metadata {
        let value = object.0.get("metadata").cloned().unwrap_or_default();
        let why = if is_local {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        errors.push(FieldError::invalid(&FieldPath::new("metadata"), value, why));
    }
    if is_local {
        let namespace = object.text_at(&["spec", "resourceAttributes", "namespace"]);
        if resource.is_some() && namespace != object.namespace() {
            let path = FieldPath::new("spec.resourceAttributes.namespace");
            errors.push(FieldError::invalid(
                &path,
                namespace,
                "must match metadata.namespace",
            ));
        }
        if let Some(other) = other {
            let path = FieldPath::new("spec").child("nonResourceAttributes");
            errors.push(FieldError::invalid(
                &path,
                other.clone(),
                "disallowed on this kind of request",
            ));
        }
    }
    errors
}

/// Components as the old kind shows them. All of them live in this process: who can ask, asks a healthy one.
const COMPONENTS: [&str; 3] = ["controller-manager", "scheduler", "etcd-0"];

fn component(call: &Call<'_>, name: &str) -> Value {
    let kind = &call.served.description.kind;
    json!({
        "kind": kind.kind, "apiVersion": kind.api_version(), "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
    })
}

pub(crate) fn component_status(call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = call.path.name.as_str();
    if !COMPONENTS.contains(&name) {
        return Err(ApiError::not_found(
            &call.served.description.group_resource(),
            name,
        ));
    }
    Ok(Answer::Value {
        code: 200,
        served: Some(call.served.clone()),
        value: component(call, name),
    })
}

pub(crate) fn component_statuses(call: &Call<'_>) -> Answer {
    let object = |name: &&str| {
        let bytes = codec::encode_stored(&component(call, name));
        apimachinery::StoredObject::new(bytes.into(), 0).ok()
    };
    let items = COMPONENTS.iter().filter_map(object).collect();
    let list = storage::List {
        items,
        revision: 0,
        continue_token: None,
        remaining: None,
    };
    Answer::List {
        served: call.served.clone(),
        list,
    }
}
