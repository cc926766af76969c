//! Keeping the node alive: pods go when memory, disk or processes run out.

mod thresholds;

pub use thresholds::Thresholds;
