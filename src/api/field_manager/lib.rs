//! Server-side apply (KEP-555): who owns which field, how applied configurations merge, and when they conflict.
//!
//! Pure: objects and the owners of their fields go in, objects and owners come out.

mod conflict;
mod field_set;
mod manager;
mod managers;
mod typed;

pub use manager::{Actor, Applied, Force, Writable, apply, track};

#[cfg(test)]
mod tests;
