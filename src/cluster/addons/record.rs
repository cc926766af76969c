//! What a file made: a ConfigMap in kube-system, so that what the file no longer says can be found after any restart.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::object_ref::ObjectRef;

pub(crate) const NAMESPACE: &str = "kube-system";
/// On every record; its value is the file's base name.
pub(crate) const LABEL: &str = "combo.io/addon";
const NAME_PREFIX: &str = "addon-";
const HASH_LETTERS: usize = 16;
const LABEL_LETTERS_MAX: usize = 63;

/// One object and the incarnation of it that the file made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    #[serde(flatten)]
    pub(crate) object: ObjectRef,
    /// Empty while it is about to be made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Relative to the folder.
    pub(crate) file: String,
    /// Of the text that was applied last, whole.
    pub(crate) checksum: String,
    pub(crate) made: Vec<Made>,
}

/// The name of the record of a file.
pub(crate) fn record_name(file: &str) -> String {
    let hash = checksum(file.as_bytes());
    format!("{NAME_PREFIX}{}", &hash[..HASH_LETTERS])
}

pub(crate) fn checksum(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Record {
    pub(crate) fn to_config_map(&self) -> ConfigMap {
        let made = serde_json::to_string(&self.made).expect("names can be written as JSON");
        let data = [
            ("file", self.file.clone()),
            ("checksum", self.checksum.clone()),
            ("objects", made),
        ];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(record_name(&self.file)),
                namespace: Some(NAMESPACE.to_owned()),
                labels: Some(BTreeMap::from([(LABEL.to_owned(), label(&self.file))])),
                ..ObjectMeta::default()
            },
            data: Some(data.map(|(key, text)| (key.to_owned(), text)).into()),
            ..ConfigMap::default()
        }
    }

    /// `None`: it is no record, or somebody changed it into one of another file.
    pub(crate) fn from_config_map(map: &ConfigMap) -> Option<Self> {
        let data = map.data.as_ref()?;
        let record = Self {
            file: data.get("file")?.clone(),
            checksum: data.get("checksum")?.clone(),
            made: serde_json::from_str(data.get("objects")?).ok()?,
        };
        let is_its_own = map.metadata.name.as_deref() == Some(&record_name(&record.file));
        is_its_own.then_some(record)
    }
}

/// A file's base name as a label can have it.
fn label(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    let text: String = base
        .chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() || "-_.".contains(letter) => letter,
            _ => '_',
        })
        .take(LABEL_LETTERS_MAX)
        .collect();
    let is_edge = |letter: char| !letter.is_ascii_alphanumeric();
    text.trim_matches(is_edge).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_belongs_to_its_file() {
        let record = Record {
            file: "apps/ä web.yaml".to_owned(),
            checksum: checksum(b"text"),
            made: vec![Made {
                object: ObjectRef {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    namespace: String::new(),
                    name: "a".to_owned(),
                },
                uid: "u".to_owned(),
            }],
        };
        let mut map = record.to_config_map();
        assert_eq!(Record::from_config_map(&map), Some(record));
        let labels = map.metadata.labels.clone().expect("labels");
        assert_eq!(labels[LABEL], "web.yaml");
        map.metadata.name = Some("addon-of-another".to_owned());
        assert_eq!(Record::from_config_map(&map), None);
    }
}
