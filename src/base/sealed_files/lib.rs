//! Records on disk that nobody reads without the key: each in a file of its own, whole or not at all, also after a power cut.
//!
//! A [`SealedFolder`] is the files; [`Records`] writes them behind everybody's back, in order, and never twice the same.

mod error;
mod folder;
mod records;

pub use error::{Error, Result};
pub use folder::{NAME_BYTES_MAX, RECORD_BYTES_MAX, SealedFolder};
pub use records::{AfterWriting, RECORDS_MAX, Records};
