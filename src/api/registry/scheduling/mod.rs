//! Kinds of the group `scheduling`, one file each.

pub mod priority_class;
