//! What files a volume of objects holds: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};
use semantics::downward_api::{self, NodeFacts};

use crate::error::{Error, Result};

const PATH_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 255;
/// What the API server fills in.
pub(crate) const DEFAULT_MODE: i32 = 0o644;

/// Files by their paths inside the volume.
pub(crate) type Payload = BTreeMap<String, PayloadFile>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PayloadFile {
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Root owns it otherwise.
    pub(crate) owner: Option<u32>,
}

/// How an object's keys become files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Projection<'a> {
    /// Empty: all keys under their own names.
    pub(crate) items: &'a [KeyToPath],
    pub(crate) default_mode: Option<i32>,
    /// Whether a missing object or key is fine.
    pub(crate) optional: bool,
}

impl Projection<'_> {
    fn project<'d>(
        &self,
        keys: impl Iterator<Item = &'d String>,
        find: impl Fn(&str) -> Option<Vec<u8>>,
        missing: impl Fn(&str) -> String,
    ) -> Result<Payload> {
        let file = |data, mode: Option<i32>| file(data, mode.or(self.default_mode));
        if self.items.is_empty() {
            return Ok(keys
                .filter_map(|key| Some((key.clone(), file(find(key)?, None))))
                .collect());
        }
        let mut payload = Payload::new();
        for item in self.items {
            match find(&item.key) {
                Some(data) => {
                    payload.insert(item.path.clone(), file(data, item.mode));
                }
                None if self.optional => {}
                None => return Err(Error::Invalid(missing(&item.key))),
            }
        }
        Ok(payload)
    }
}

fn file(data: Vec<u8>, mode: Option<i32>) -> PayloadFile {
    let mode = u32::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or(0o644) & 0o777;
    PayloadFile {
        data,
        mode,
        owner: None,
    }
}

pub(crate) fn config_map_payload(
    name: &str,
    object: Option<&ConfigMap>,
    projection: Projection<'_>,
) -> Result<Payload> {
    let Some(object) = object else {
        return absent("configmap", name, projection);
    };
    let text = object.data.as_ref();
    let binary = object.binary_data.as_ref();
    let keys = text
        .into_iter()
        .flat_map(BTreeMap::keys)
        .chain(binary.into_iter().flat_map(BTreeMap::keys));
    let find = |key: &str| {
        let text = text
            .and_then(|data| data.get(key))
            .map(|text| text.clone().into_bytes());
        text.or_else(|| {
            binary
                .and_then(|data| data.get(key))
                .map(|bytes| bytes.0.clone())
        })
    };
    projection.project(keys, find, |key| {
        format!("configmap references non-existent config key: {key}")
    })
}

pub(crate) fn secret_payload(
    name: &str,
    object: Option<&Secret>,
    projection: Projection<'_>,
) -> Result<Payload> {
    let Some(object) = object else {
        return absent("secret", name, projection);
    };
    let data = object.data.as_ref();
    let find = |key: &str| {
        data.and_then(|data| data.get(key))
            .map(|bytes| bytes.0.clone())
    };
    let keys = data.into_iter().flat_map(BTreeMap::keys);
    projection.project(keys, find, |key| {
        format!("references non-existent secret key: {key}")
    })
}

fn absent(kind: &'static str, name: &str, projection: Projection<'_>) -> Result<Payload> {
    if projection.optional {
        Ok(Payload::new())
    } else {
        Err(Error::NotFound {
            kind,
            name: name.to_owned(),
        })
    }
}

pub(crate) fn downward_api_payload(
    items: &[DownwardAPIVolumeFile],
    pod: &Pod,
    facts: &NodeFacts,
    default_mode: Option<i32>,
) -> Result<Payload> {
    let mut payload = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward_api::field(pod, &field.field_path, facts),
            (None, Some(resource)) => downward_api::resource(pod, None, resource, facts),
            (None, None) => Ok(String::new()),
        };
        let data = text.map_err(Error::Invalid)?.into_bytes();
        payload.insert(item.path.clone(), file(data, item.mode.or(default_mode)));
    }
    Ok(payload)
}

/// A file that is a credential: for nobody but its user, once there is one or a group to read it.
pub(crate) fn credential(
    data: Vec<u8>,
    default_mode: Option<i32>,
    owner: Option<u32>,
    fs_group: Option<u32>,
) -> PayloadFile {
    let mode = if owner.is_some() || fs_group.is_some() {
        Some(0o600)
    } else {
        default_mode
    };
    PayloadFile {
        owner,
        ..file(data, mode)
    }
}

/// The payload with clean paths; what could leave the volume or hide its book-keeping is refused.
pub(crate) fn checked(payload: Payload) -> Result<Payload> {
    payload
        .into_iter()
        .map(|(path, file)| Ok((checked_path(&path)?, file)))
        .collect()
}

fn checked_path(path: &str) -> Result<String> {
    let refuse = |why: String| Err(Error::Invalid(format!("invalid path: {why}")));
    if path.is_empty() {
        return refuse(format!("must not be empty: {path:?}"));
    }
    if path.starts_with('/') {
        return refuse(format!("must be relative path: {path}"));
    }
    if path.len() > PATH_BYTES_MAX {
        return refuse(format!(
            "must be less than or equal to {PATH_BYTES_MAX} characters"
        ));
    }
    if path.contains('\0') {
        return refuse(String::from("must not contain NUL"));
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return refuse(format!("must not contain '..': {path}"));
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return refuse(format!(
            "filenames must be less than or equal to {NAME_BYTES_MAX} characters"
        ));
    }
    match parts.first() {
        None => refuse(format!("must not be empty: {path:?}")),
        Some(first) if first.starts_with("..") => {
            refuse(format!("must not start with '..': {path}"))
        }
        Some(_) => Ok(parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn projection(items: &[KeyToPath], optional: bool) -> Projection<'_> {
        Projection {
            items,
            default_mode: Some(0o640),
            optional,
        }
    }

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let object: ConfigMap = serde_json::from_value(
            json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}}),
        )
        .unwrap();
        let all = config_map_payload("m", Some(&object), projection(&[], false)).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            (all["c"].data.as_slice(), all["c"].mode),
            (&[0xff][..], 0o640)
        );

        let items: Vec<KeyToPath> = serde_json::from_value(
            json!([{"key": "a", "path": "x/y", "mode": 256}, {"key": "no", "path": "n"}]),
        )
        .unwrap();
        assert!(config_map_payload("m", Some(&object), projection(&items, false)).is_err());
        let chosen = config_map_payload("m", Some(&object), projection(&items, true)).unwrap();
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen["x/y"].mode, 0o400);
    }

    #[test]
    fn a_missing_object_is_an_error_unless_optional() {
        let error = secret_payload("s", None, projection(&[], false)).unwrap_err();
        assert_eq!(error.to_string(), "secret \"s\" not found");
        assert!(
            secret_payload("s", None, projection(&[], true))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn paths_stay_inside_and_off_the_book_keeping() {
        assert_eq!(checked_path("a//./b").unwrap(), "a/b");
        assert_eq!(checked_path("a/..b").unwrap(), "a/..b");
        let long = "n".repeat(256);
        for path in [
            "",
            ".",
            "/a",
            "../a",
            "a/../b",
            "..data",
            "..a/b",
            long.as_str(),
            "a\0b",
        ] {
            assert!(checked_path(path).is_err(), "{path:?}");
        }
    }
}
