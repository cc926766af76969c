//! etcd's errors: clients know them by code and text, which therefore are etcd's to the letter.

use kv::Error;
use tonic::{Code, Status};

/// An error of the API that no store can have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    EmptyKey,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    InvalidSortOption,
    TooManyOperations,
    TooLarge,
    NotCapable,
    BadLeaderTransferee,
    NoInflightDowngrade,
    MemberNotFound,
    NotLearner,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let (code, text) = match refusal {
            Refusal::EmptyKey => (Code::InvalidArgument, "key is not provided"),
            Refusal::KeyNotFound => (Code::InvalidArgument, "key not found"),
            Refusal::ValueProvided => (Code::InvalidArgument, "value is provided"),
            Refusal::LeaseProvided => (Code::InvalidArgument, "lease is provided"),
            Refusal::InvalidSortOption => (Code::InvalidArgument, "invalid sort option"),
            Refusal::TooManyOperations => {
                (Code::InvalidArgument, "too many operations in txn request")
            }
            Refusal::TooLarge => (Code::InvalidArgument, "request is too large"),
            Refusal::NotCapable => (Code::FailedPrecondition, "not capable"),
            Refusal::BadLeaderTransferee => (Code::FailedPrecondition, "bad leader transferee"),
            Refusal::NoInflightDowngrade => (Code::FailedPrecondition, "no inflight downgrade job"),
            Refusal::MemberNotFound => (Code::NotFound, "member not found"),
            Refusal::NotLearner => (
                Code::FailedPrecondition,
                "can only promote a learner member",
            ),
        };
        Self::new(code, format!("etcdserver: {text}"))
    }
}

/// What a client is told of an error of the store.
pub(crate) fn status(error: Error) -> Status {
    let code = match &error {
        Error::Compacted { .. } | Error::FutureRevision | Error::LeaseTtlTooLarge => {
            Code::OutOfRange
        }
        Error::DuplicateKey
        | Error::TooManyOperations
        | Error::TooLarge
        | Error::EmptyKey
        | Error::KeyNotFound => Code::InvalidArgument,
        Error::LeaseNotFound => Code::NotFound,
        Error::LeaseExists => Code::FailedPrecondition,
        Error::NoSpace => Code::ResourceExhausted,
        Error::Corrupt => Code::DataLoss,
        Error::Closed => return Status::unavailable(STOPPED),
        Error::Io(_) => Code::Unknown,
        Error::Unavailable(_) => Code::Unavailable,
        Error::Unsupported(_) => Code::Unimplemented,
    };
    Status::new(code, error.to_string())
}

/// What a client is told whose server goes away.
pub(crate) const STOPPED: &str = "etcdserver: server stopped";
