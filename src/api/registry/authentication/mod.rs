//! Kinds of the group `authentication`, one file each.

pub mod self_subject_review;
pub mod token_review;
