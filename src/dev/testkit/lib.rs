//! What tests and developer tasks share: sample workloads, images of them that are packed on the spot, and a store of
//! objects.

mod image;
pub mod object_store;

pub use image::Image;
