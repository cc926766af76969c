//! Secrets of `v1`.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::{Column, SelectableField, Strategy};
use crate::pod_template::default_text;

/// Objects of kind `Secret`.
#[derive(Debug)]
pub struct Secrets;

impl Strategy for Secrets {
    type Kind = Secret;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Type", |secret, _| secret.type_.clone().unwrap_or_default().into()),
        Column::text("Data", |secret, _| secret.data.as_ref().map_or(0, std::collections::BTreeMap::len).into()),
        Column::age(),
    ];
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::text("type", &["type"]),
    ];

    fn default(secret: &mut Secret) {
        default_text(&mut secret.type_, "Opaque");
        // `stringData` is write-only: what it says replaces the same keys of `data`.
        if let Some(texts) = secret.string_data.take() {
            let data = secret.data.get_or_insert_default();
            data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
    }
}
