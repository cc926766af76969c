//! What tests and developer tasks share: sample workloads, and images of them that are packed on the spot.

mod image;

pub use image::Image;
