//! The index of a stored version: extracted when it is first asked for, and kept with the version.

use std::sync::Arc;

use apimachinery::{ObjectIndex, StoredObject};
use kv::Entry;

use crate::fields;
use crate::{Collection, StorageError};

/// One version of an object, with its index, sharing the store's bytes.
pub(crate) fn stored(
    entry: &Arc<Entry>,
    collection: &Collection,
) -> Result<StoredObject, StorageError> {
    let index = if let Some(index) = entry
        .memo
        .get()
        .and_then(|memo| memo.downcast_ref::<Arc<ObjectIndex>>())
    {
        index.clone()
    } else {
        let index = Arc::new(extract(entry, collection)?);
        // Somebody else may have been quicker; both say the same.
        let _first = entry.memo.set(Box::new(index.clone()));
        index
    };
    Ok(StoredObject {
        bytes: entry.value.clone(),
        revision: entry.mod_revision,
        index,
    })
}

fn extract(entry: &Entry, collection: &Collection) -> Result<ObjectIndex, StorageError> {
    let corrupt = |source| StorageError::Corrupt {
        key: String::from_utf8_lossy(&entry.key).into_owned(),
        source,
    };
    let mut index = ObjectIndex::extract(&entry.value).map_err(corrupt)?;
    index.fields = fields::extract(&entry.value, &collection.selectable_fields).map_err(corrupt)?;
    Ok(index)
}
