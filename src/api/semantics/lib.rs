//! Arithmetic that several components share: one topic a file, all of it pure.

pub mod qos;
pub mod resources;
