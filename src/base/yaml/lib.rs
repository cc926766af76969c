//! YAML as a tree in which every part knows its line: one reader for objects, settings and credentials, and one writer.
//!
//! Scalars mean what they mean to Kubernetes' own reader, by the rules of YAML 1.1. No error repeats the text, which may hold a password.

mod compose;
mod error;
mod part;
mod scalar;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub use compose::{DEPTH_MAX, parse, parse_first};
pub use error::{Fault, SyntaxError};
pub use part::{Part, Wrong};
pub use scalar::{Kind, Scalar};
pub use tree::{Entry, Node, Place, Value};
pub use write::write;
