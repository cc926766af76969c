//! Kinds of the group `certificates`, one file each.

pub mod certificate_signing_request;
pub(crate) mod signer_names;
