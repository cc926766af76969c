//! Kinds of the group `discovery`, one file each.

pub mod endpoint_slice;
