//! What can go wrong between an object and the store, and what a client is told.

use apimachinery::{ApiError, GroupResource};

/// A failed access to the store.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{resource} {name:?} is not stored")]
    NotFound {
        resource: GroupResource,
        name: String,
    },
    #[error("{resource} {name:?} is stored already")]
    AlreadyExists {
        resource: GroupResource,
        name: String,
    },
    /// Somebody else wrote in between.
    #[error("{resource} {name:?} was modified")]
    Modified {
        resource: GroupResource,
        name: String,
    },
    /// What was to be claimed alongside the object is somebody else's.
    #[error("a claim was overtaken")]
    Contended,
    #[error("the revision is compacted")]
    Compacted,
    #[error("stored object {key} cannot be read: {source}")]
    Corrupt {
        key: String,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Store(kv::Error),
    /// An answer that is made where the reason is known.
    #[error(transparent)]
    Answer(Box<ApiError>),
}

impl From<kv::Error> for StorageError {
    fn from(error: kv::Error) -> Self {
        match error {
            kv::Error::Compacted { .. } => Self::Compacted,
            other => Self::Store(other),
        }
    }
}

impl From<ApiError> for StorageError {
    fn from(error: ApiError) -> Self {
        Self::Answer(Box::new(error))
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotFound { resource, name } => Self::not_found(&resource, &name),
            StorageError::AlreadyExists { resource, name } => {
                Self::already_exists(&resource, &name)
            }
            StorageError::Modified { resource, name } => Self::modified(&resource, &name),
            StorageError::Compacted => {
                Self::expired("The resourceVersion for the provided watch is too old.")
            }
            StorageError::Answer(answer) => *answer,
            StorageError::Store(kv::Error::TooLarge) => {
                Self::too_large("etcdserver: request is too large")
            }
            // Upstream passes on etcd's words; these say besides what is done about it.
            StorageError::Store(error @ kv::Error::NoSpace) => Self::internal(format!(
                "{error}: delete what is not needed; `combo db status` tells whether the disk or the store's quota is full"
            )),
            StorageError::Store(error @ kv::Error::Corrupt) => Self::internal(format!(
                "{error}: the store is damaged and only read; `combo snapshot restore` makes it whole"
            )),
            StorageError::Store(error @ kv::Error::Unavailable(_)) => {
                Self::service_unavailable(error.to_string())
            }
            other => Self::internal(other),
        }
    }
}
