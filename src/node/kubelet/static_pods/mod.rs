//! Static pods: files of a folder that run without an API server, and the mirrors that show them there.

mod manifest;
mod mirrors;
mod source;

pub(crate) use mirrors::Mirrors;
pub(crate) use source::StaticPods;
