//! The node itself: what it has, its object, its lease.

mod capacity;

pub use capacity::Capacity;
