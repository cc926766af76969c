//! Secrets of `v1`.

use super::config_map::{CONTENT_BYTES_MAX, stays_immutable, unchanged_content};
use crate::validation::changes::immutable;
use crate::validation::{found, names, text};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::pod_template::default_text;
use crate::{Column, SelectableField, Strategy};

/// Objects of kind `Secret`.
#[derive(Debug)]
pub struct Secrets;

impl Strategy for Secrets {
    type Kind = Secret;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Type", |secret, _| {
            secret.type_.clone().unwrap_or_default().into()
        }),
        Column::text("Data", |secret, _| {
            secret
                .data
                .as_ref()
                .map_or(0, std::collections::BTreeMap::len)
                .into()
        }),
        Column::age(),
    ];
    const SELECTABLE_FIELDS: &'static [SelectableField] =
        &[SelectableField::text("type", &["type"])];

    fn default(secret: &mut Secret) {
        default_text(&mut secret.type_, "Opaque");
        // `stringData` is write-only: what it says replaces the same keys of `data`.
        if let Some(texts) = secret.string_data.take() {
            let data = secret.data.get_or_insert_default();
            data.extend(
                texts
                    .into_iter()
                    .map(|(key, text)| (key, ByteString(text.into_bytes()))),
            );
        }
    }

    fn prepare_for_update(secret: &mut Secret, old: &Secret) {
        if text(&secret.type_).is_empty() {
            secret.type_.clone_from(&old.type_);
        }
    }

    fn validate(secret: &Secret) -> FieldErrors {
        let path = FieldPath::new("data");
        let mut bytes = 0;
        found(|errors| {
            for (key, value) in secret.data.iter().flatten() {
                names::config_key(errors, key, &path.key(key));
                bytes += value.0.len();
            }
            if bytes > CONTENT_BYTES_MAX {
                errors.push(FieldError::too_long(&path, CONTENT_BYTES_MAX as i64));
            }
            for_type(errors, secret, &path);
        })
    }

    fn validate_update(secret: &Secret, old: &Secret) -> FieldErrors {
        found(|errors| {
            let type_path = FieldPath::new("type");
            immutable(errors, &text(&secret.type_), &text(&old.type_), &type_path);
            if old.immutable == Some(true) {
                stays_immutable(errors, secret.immutable);
                unchanged_content(errors, "data", &secret.data, &old.data);
            }
        })
    }
}

const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";

/// What secrets of the known types must hold.
fn for_type(errors: &mut FieldErrors, secret: &Secret, path: &FieldPath) {
    let data = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|value| value.0.as_slice())
    };
    let mut require = |keys: &[&str]| {
        errors.extend(
            keys.iter()
                .map(|key| FieldError::required(&path.key(key), "")),
        );
    };
    let missing = |keys: &[&'static str]| -> Vec<&'static str> {
        keys.iter()
            .copied()
            .filter(|key| data(key).is_none())
            .collect()
    };
    match text(&secret.type_) {
        "kubernetes.io/service-account-token" => {
            let account = secret
                .metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(ACCOUNT_ANNOTATION));
            if account.is_none_or(String::is_empty) {
                let path =
                    crate::validation::path(&["metadata", "annotations"]).key(ACCOUNT_ANNOTATION);
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/dockercfg" => json_object(errors, ".dockercfg", data(".dockercfg"), path),
        "kubernetes.io/dockerconfigjson" => {
            json_object(errors, ".dockerconfigjson", data(".dockerconfigjson"), path);
        }
        "kubernetes.io/basic-auth" => {
            let keys = ["username", "password"];
            if missing(&keys).len() == keys.len() {
                require(&keys);
            }
        }
        "kubernetes.io/ssh-auth" if data("ssh-privatekey").is_none_or(<[u8]>::is_empty) => {
            require(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => require(&missing(&["tls.crt", "tls.key"])),
        _ => (),
    }
}

fn json_object(errors: &mut FieldErrors, key: &str, content: Option<&[u8]>, path: &FieldPath) {
    let path = path.key(key);
    match content {
        None => errors.push(FieldError::required(&path, "")),
        Some(content) => {
            if let Some(why) = why_no_object(content) {
                errors.push(FieldError::invalid(
                    &path,
                    "<secret contents redacted>",
                    why,
                ));
            }
        }
    }
}

/// In the words of Go's decoder, which clients know, as far as the reason is that plain.
fn why_no_object(content: &[u8]) -> Option<String> {
    match serde_json::from_slice::<serde_json::Value>(content) {
        Ok(serde_json::Value::Object(_) | serde_json::Value::Null) => None,
        Ok(other) => {
            let kind = match other {
                serde_json::Value::Array(_) => "array",
                serde_json::Value::String(_) => "string",
                serde_json::Value::Bool(_) => "bool",
                _ => "number",
            };
            Some(format!(
                "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            ))
        }
        Err(error) if error.is_eof() => Some("unexpected end of JSON input".to_owned()),
        Err(error) => {
            let first = content
                .iter()
                .find(|byte| !byte.is_ascii_whitespace())
                .copied()
                .unwrap_or_default();
            if error.column()
                <= 1 + content
                    .iter()
                    .take_while(|byte| byte.is_ascii_whitespace())
                    .count()
            {
                Some(format!(
                    "invalid character {:?} looking for beginning of value",
                    char::from(first)
                ))
            } else {
                Some(error.to_string())
            }
        }
    }
}
