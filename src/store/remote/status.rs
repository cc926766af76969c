//! What an error of etcd means.

use kv::Error;
use tonic::{Code, Status};

/// Errors that etcd tells by their text, and nothing more.
const TOLD: &[Error] = &[
    Error::FutureRevision,
    Error::DuplicateKey,
    Error::TooManyOperations,
    Error::TooLarge,
    Error::EmptyKey,
    Error::KeyNotFound,
    Error::LeaseNotFound,
    Error::LeaseExists,
    Error::LeaseTtlTooLarge,
    Error::NoSpace,
    Error::Corrupt,
];

/// The error of a call. A compacted revision stays 0: etcd does not tell it.
pub(crate) fn error(status: Status) -> Error {
    let text = status.message();
    if is_compacted(&status) {
        return Error::Compacted {
            compact_revision: 0,
        };
    }
    if let Some(error) = TOLD.iter().find(|error| error.to_string() == text) {
        return error.clone();
    }
    // What gRPC says before etcd sees the request.
    if status.code() == Code::ResourceExhausted && text.contains("larger than max") {
        return Error::TooLarge;
    }
    Error::Unavailable(if text.is_empty() {
        format!("etcd answered with code {:?}", status.code())
    } else {
        text.to_owned()
    })
}

pub(crate) fn is_compacted(status: &Status) -> bool {
    let compacted = Error::Compacted {
        compact_revision: 0,
    };
    status.message() == compacted.to_string()
}
