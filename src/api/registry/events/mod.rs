//! Kinds of the group `events`, one file each.

pub mod event;
