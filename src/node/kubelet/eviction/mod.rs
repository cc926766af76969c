//! Keeping the node alive: pods go when memory, disk or processes run out.

mod manager;
mod measure;
mod rank;
mod thresholds;

pub(crate) use manager::EvictionManager;
pub use thresholds::Thresholds;
