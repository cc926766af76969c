//! Kinds of the group `node`, one file each.

pub mod runtime_class;
